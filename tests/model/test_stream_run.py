import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from model.encoder_names import EncoderName
from model.stream_run import StreamRun, StreamSettings
from model.urn_stream import UrnSettings

SETTINGS = StreamSettings(
    dim=16,
    rate=0.01,
    batch_records=8,
    num_negatives=32,
    stream=UrnSettings(num_records=400, num_ids=100, num_categories=10, record_length=16),
)
CPU = torch.device("cpu")


@pytest.mark.parametrize("name", ["hstu-no-rab", "hstu-softmax-no-rab", "transformer"])
def test_a_single_pass_learns_categories(name: EncoderName) -> None:
    """Percents of the oracle of a model that learned nothing are percents of chance."""
    run = StreamRun(dataclasses.replace(SETTINGS, encoder=name), CPU)
    before = run.figures()
    for number in range(run.stream.num_learned_parts):
        assert len(list(run.learn_part(number))) == run.num_steps()
    after = run.figures()
    assert before["percent@10"] < 30
    assert after["percent@10"] > 1.5 * before["percent@10"]
    assert after["percent@10"] < 100
    assert after["oracle_hr@10"] == before["oracle_hr@10"]
    assert after["percent@50"] == pytest.approx(100 * after["hr@50"] / after["oracle_hr@50"])


def test_a_pass_in_two_halves_is_a_whole_one_to_the_last_bit() -> None:
    """Resuming would give other figures than running through."""
    through, first, second = (StreamRun(SETTINGS, CPU) for _ in range(3))
    losses = [list(through.learn_part(number)) for number in range(3)]
    assert [list(first.learn_part(number)) for number in range(2)] == losses[:2]
    second.trainer.load(first.trainer.state())
    assert list(second.learn_part(2)) == losses[2]
    assert second.figures() == through.figures()


def test_ids_that_are_not_there_yet_are_neither_drawn_nor_ranked() -> None:
    """A negative from the future teaches that new ids are never wanted."""
    run = StreamRun(SETTINGS, CPU)
    part = run.stream.part(0)
    rows = run.model.items.detach().clone()
    list(run.learn_part(0))
    last = int(part.num_there_R.max())
    assert torch.equal(run.model.items[last + 1 :], rows[last + 1 :])
    assert not torch.isclose(run.model.items[1:last], rows[1:last]).all(-1).any()
    with torch.no_grad():
        assert np.isfinite(run._ranks(part.items_RL, part.num_there_R)).all()
        assert np.isinf(run._ranks(part.items_RL, np.zeros_like(part.num_there_R))).all()


@pytest.mark.parametrize(("name", "value"), [("rate", 0.0), ("temperature", 0.0), ("seed", -1), ("num_heads", 3)])
def test_settings_that_cannot_be_are_refused(name: str, value: Any) -> None:
    """An hour later the mistake would show as a strange figure."""
    with pytest.raises(ValueError, match=name):
        dataclasses.replace(SETTINGS, **{name: value})
