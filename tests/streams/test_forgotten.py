"""The word among the samples that a user was forgotten."""

import msgspec
import pytest

from streams.forgotten import decode_due, encode_forgotten
from streams.samples import decode_sample, encode_sample
from tests.streams.made_samples import forgotten_factory, sample_factory

ENCODED = (
    b"\x88\xa4type\xa9forgotten\xa1v\x03\xa8topic_id\xa5log-1\xa5epoch\x00\xa9partition\x00\xaetrigger_offset\x02"
    b"\xa1n\x00\xa7user_id\xa3ada"
)


def test_the_word_is_these_bytes() -> None:
    """Learners of another version would read something else."""
    assert encode_forgotten(forgotten_factory()) == ENCODED
    assert decode_due(ENCODED) == forgotten_factory()


def test_a_sample_is_read_as_one() -> None:
    assert decode_due(encode_sample(sample_factory())) == sample_factory()


def test_who_does_not_know_the_word_takes_it_for_no_sample() -> None:
    """An older learner that took it for an empty sample would move its marks, and the user's chain would break."""
    with pytest.raises(msgspec.ValidationError, match="missing required field"):
        decode_sample(ENCODED)


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"\x88",
        ENCODED[:-1],
        ENCODED.replace(b"ada", b"\xff\xff\xff"),
        ENCODED.replace(b"\xa1v\x03", b"\xa1v\x09"),
    ],
)
def test_anything_else_is_refused(value: bytes | None) -> None:
    """One bad record would end the learner."""
    with pytest.raises(msgspec.DecodeError):
        decode_due(value)
