"""What `headwater bench` measures: rates, CPU seconds, memory and latencies, against peers on the same broker."""
