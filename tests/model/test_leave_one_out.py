import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from model.corpus import Corpus
from model.encoder_names import EncoderName
from model.leave_one_out import LeaveOneOut, LeaveOneOutSettings
from tests.model.histories import NAMES, corpus_factory, cycle_corpus

CPU = torch.device("cpu")


def run_factory(corpus: Corpus, **options: Any) -> LeaveOneOut:
    small = {"dim": 16, "num_heads": 2, "max_history": 8, "batch_users": 16, "num_negatives": 16, "rate": 0.01}
    return LeaveOneOut(corpus, LeaveOneOutSettings(**{**small, "dropout": 0.1, **options}), CPU)


def learn(run: LeaveOneOut, epochs: range) -> list[float]:
    return [sum(run.run_epoch(epoch)) / run.num_steps() for epoch in epochs]


@pytest.mark.parametrize("name", NAMES)
def test_every_encoder_learns_what_follows_from_the_last_item(name: EncoderName) -> None:
    """A loss that falls shows little: the held-out items must be found."""
    run = run_factory(cycle_corpus(), encoder=name, dropout=0.0)
    before = run.figures()["mrr"]
    learn(run, range(20))
    assert before < 0.3
    assert run.figures()["mrr"] > 0.9


def test_a_run_that_goes_on_from_its_state_is_the_same_to_the_last_bit() -> None:
    """Resuming would give other figures than running through."""
    through, first, second = (run_factory(cycle_corpus()) for _ in range(3))
    losses = learn(through, range(3))
    assert learn(first, range(1)) == losses[:1]
    second.trainer.load(first.trainer.state())
    assert learn(second, range(1, 3)) == losses[1:]
    state, other = through.trainer.state(), second.trainer.state()
    assert state.keys() == other.keys()
    assert all(np.array_equal(state[name], other[name]) for name in state)


def test_epochs_and_seeds_draw_differently() -> None:
    """The same batches, negatives and dropout each epoch are one epoch learned by heart."""
    corpus = cycle_corpus()
    runs = {(seed, epoch): run_factory(corpus, seed=seed) for seed in (0, 1) for epoch in (0, 1)}
    runs[0, 1].trainer.load(runs[0, 0].trainer.state())
    assert len({next(iter(run.run_epoch(epoch))) for (_, epoch), run in runs.items()}) == 4


def test_stochastic_length_shortens_what_is_learned_from_and_nothing_that_is_ranked_by() -> None:
    """Figures of shortened histories would be another model's, and an ablation without effect says nothing."""
    whole, shortened = (run_factory(cycle_corpus(), alpha=alpha, selection="newest") for alpha in (2.0, 1.2))
    assert whole.ranks().tolist() == shortened.ranks().tolist()
    assert learn(whole, range(1)) != learn(shortened, range(1))
    with pytest.raises(ValueError, match="alpha must be in"):
        LeaveOneOutSettings(alpha=1.0)


def test_ranks_are_those_of_a_plain_sort_without_the_user_s_earlier_items() -> None:
    """A history cut for the model must still leave the candidates whole, or old favourites crowd the list."""
    corpus = corpus_factory(lengths=(4, 1, 20, 7, 2))
    run = run_factory(corpus)
    ranks = run.ranks().tolist()
    run.model.eval()
    expected = []
    for user in (0, 2, 3, 4):
        own = corpus.items_T[corpus.offsets[user] : corpus.offsets[user + 1]]
        with torch.no_grad():
            (x_D,) = run.model(run._batch(np.array([user]), 0))
            scores = (run.model.unit_items() @ x_D).tolist()
        others = [score for item, score in enumerate(scores) if item > 0 and item not in own]
        expected.append(1 + sum(score > scores[own[-1]] for score in others))
    assert ranks == expected


def test_a_target_among_the_user_s_earlier_items_is_a_miss() -> None:
    """It was filtered out, so that it cannot be found."""
    corpus = corpus_factory(lengths=(5, 5))
    items = corpus.items_T.copy()
    items[4] = items[1]
    assert run_factory(dataclasses.replace(corpus, items_T=items)).ranks().tolist()[0] == np.inf


def test_users_too_short_to_learn_from_are_ranked_still() -> None:
    """Two events make a test: one to see and one to find."""
    run = run_factory(corpus_factory(lengths=(2, 3)))
    assert len(run.ranks()) == 2
    assert run.num_steps() == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [("num_epochs", 0), ("rate", 0.0), ("temperature", -1.0), ("seed", -1), ("num_heads", 4), ("dropout", 1.0)],
)
def test_settings_that_cannot_be_are_refused(name: str, value: Any) -> None:
    """An hour later the mistake would show as a strange figure."""
    with pytest.raises(ValueError, match=name):
        LeaveOneOutSettings(**{name: value})


def test_a_loss_that_is_not_finite_stops_the_run() -> None:
    """Hours of NaN, and a figure of 0 at their end."""
    run = run_factory(cycle_corpus())
    with torch.no_grad():
        run.model.positions.fill_(torch.nan)
    with pytest.raises(FloatingPointError, match="lower the rate"):
        learn(run, range(1))
