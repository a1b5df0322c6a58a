"""What learns: HSTU, its heads, the item table and the online step. It knows neither Kafka, RocksDB nor files."""
