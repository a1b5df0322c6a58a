import numpy as np
import pytest
import torch

from model.din import DIN, DINBatch, DINSettings, din_logits
from model.metrics import BinaryFigures

SETTINGS = DINSettings(dim=8, max_history=10, batch_events=32, rate=1e-2)


def made(num_events: int = 9_000) -> tuple[list[str], list[str], np.ndarray]:
    """Ever new users, of thirty events each, who like one half of the catalogue: their history alone says which."""
    draws = np.random.default_rng(0)
    users, items = np.arange(num_events) // 30, draws.integers(30, size=num_events)
    likes = draws.integers(2, size=num_events // 30 + 1)[users]
    return [f"u{user}" for user in users], [f"i{item}" for item in items], (items % 2 == likes).astype(np.int64)


def batch_factory(model_items: int = 30, rows: int = 4) -> DINBatch:
    draws = np.random.default_rng(1)
    history = draws.integers(1, model_items + 1, size=(rows, 10))
    history[:, :3] = 0
    return DINBatch(
        torch.from_numpy(draws.integers(1, 21, size=rows)),
        torch.from_numpy(draws.integers(1, model_items + 1, size=rows)),
        torch.from_numpy(history),
        torch.from_numpy(draws.integers(0, 2, size=(rows, 10, 1)).astype(np.float32)),
    )


def model_factory() -> DIN:
    model = DIN(SETTINGS, num_users=20, num_items=30, num_actions=1)
    model.reset(torch.Generator().manual_seed(0))
    return model


def test_it_learns_what_a_history_says() -> None:
    """A weak opponent makes any ranker look good: neither an item's rate nor a user's says much here."""
    users, items, actions = made()
    logits = din_logits(users, items, actions, 1, SETTINGS)
    figures = BinaryFigures()
    figures.update(logits[6_000:, 0], actions[6_000:] == 1)
    assert figures.auc() > 0.8


def test_no_score_follows_from_what_comes_after_its_batch_began() -> None:
    """A ranker that has seen the answer cannot be beaten."""
    users, items, actions = made(320)
    changed = actions.copy()
    changed[160:] = 1 - changed[160:]
    before, after = (din_logits(users, items, labels, 1, SETTINGS) for labels in (actions, changed))
    assert np.array_equal(before[:161], after[:161])
    assert not np.array_equal(before[161:], after[161:])


def test_the_order_of_a_history_and_its_padding_say_nothing() -> None:
    """The pooled history is a sum."""
    model, batch = model_factory(), batch_factory()
    turned = batch._replace(history_BN=batch.history_BN.flip(1), actions_BNA=batch.actions_BNA.flip(1))
    shorter = batch._replace(history_BN=batch.history_BN[:, 3:], actions_BNA=batch.actions_BNA[:, 3:])
    for other in (turned, shorter):
        assert torch.allclose(model(batch), model(other), atol=1e-6)


def test_an_event_that_comes_twice_counts_twice() -> None:
    """Weights are not normalised: how much a user likes something stays in the sum."""
    model, batch = model_factory(), batch_factory()
    pooled = []
    for module in model.head:
        module.register_forward_pre_hook(lambda _, inputs: pooled.append(inputs[0]))
        break
    model(batch)
    model(
        batch._replace(
            history_BN=torch.cat([batch.history_BN] * 2, 1), actions_BNA=torch.cat([batch.actions_BNA] * 2, 1)
        )
    )
    once, twice = (each[:, 16:24] for each in pooled)
    assert torch.allclose(2 * once, twice, atol=1e-6)


def test_a_rate_that_is_too_high_is_said() -> None:
    """Figures of NaN."""
    users, items, actions = made(320)
    with pytest.raises(FloatingPointError, match="lower the rate"):
        din_logits(users, items, actions, 1, DINSettings(dim=8, batch_events=32, rate=1e30))
