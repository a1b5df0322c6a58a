"""What stays: per-user sequences, checkpoints and snapshots. It knows neither torch nor Kafka."""
