import random

from kafka.partitioner import murmur2  # type: ignore[import-untyped]  # kafka-python ships no types

from streams.partitioning import partition_of, partitions_of


def test_many_keys_go_where_kafka_puts_each() -> None:
    """A user's events that were placed here and elsewhere are in two partitions, and in two sequences."""
    rng = random.Random(3)
    keys = [rng.randbytes(rng.randrange(0, 40)) for _ in range(5_000)] + [b"x" * 256, b"\0\0\0\0", b"\xff" * 7]
    for num_partitions in (1, 7, 2**20):
        expected = [(murmur2(key) & 0x7FFFFFFF) % num_partitions for key in keys]
        assert partitions_of(keys, num_partitions) == expected
    assert partitions_of([], 4) == []


def test_users_go_where_their_keys_go() -> None:
    users = ["", "ada", "日本", "x" * 100]
    assert partitions_of([user.encode() for user in users], 12) == [partition_of(user, 12) for user in users]
