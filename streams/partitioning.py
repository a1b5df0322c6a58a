"""Which partition a user's records are in."""

from kafka.partitioner import murmur2  # type: ignore[import-untyped]  # kafka-python ships no types


def partition_of(user_id: str, num_partitions: int) -> int:
    """The partition that Kafka's clients choose for a user's records.

    >>> partition_of("ada", 4)
    1
    """
    hashed: int = murmur2(user_id.encode())
    return (hashed & 0x7FFFFFFF) % num_partitions
