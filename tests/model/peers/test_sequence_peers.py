"""GRU4Rec and SASRec: what a visit is predicted from, and when they learn."""

from itertools import pairwise
from typing import Literal

import numpy as np
import pytest
import torch

from model.layout import sequence_layout
from model.peers.gru import GRU
from model.peers.peer import Visit
from model.peers.sequence_model import visit_batch
from model.peers.sequence_peer import FrozenSequencePeer, OnlineSequencePeer, SequencePeerSettings


def visit(user: int, history: list[int], item: int, number: int = 0) -> Visit:
    return Visit(number, user, item, np.array(history, np.int64))


def test_visits_of_a_user_are_read_behind_what_lies_before_each() -> None:
    """Off by one, and the token that predicts an item is the item."""
    visits = [visit(7, [4, 5], 6), visit(3, [], 9), visit(7, [4, 5, 6], 8), visit(7, [4, 5, 6], 2)]
    batch = visit_batch(visits, max_context=10)
    assert batch.items_T.tolist() == [0, 5, 6, 7, 0]
    assert batch.layout.offsets.tolist() == [0, 4, 5]
    assert batch.reads_Q.tolist() == [2, 4, 3, 3]
    assert batch.targets_Q.tolist() == [6, 9, 8, 2]


def test_context_is_cut_before_the_first_visit_and_never_after_it() -> None:
    """Where a window begins must not depend on how much comes later, and no visit may fall out of it."""
    visits = [visit(0, list(range(6 + n)), 6 + n) for n in range(4)]
    batch = visit_batch(visits, max_context=2)
    assert batch.items_T.tolist() == [0, 5, 6, 7, 8, 9]
    assert batch.reads_Q.tolist() == [2, 3, 4, 5]
    assert visit_batch(visits[:1], max_context=2).items_T.tolist() == [0, 5, 6]


def test_the_recurrent_layer_is_that_of_torch_over_sequences_of_any_lengths() -> None:
    """States that leak from one sequence into another, or into the wrong token."""
    encoder, lengths = GRU(8), [3, 1, 5]
    encoder.reset(torch.Generator().manual_seed(0))
    reference = torch.nn.GRU(8, 8, batch_first=True)
    reference.load_state_dict({f"{name}_l0": weight for name, weight in encoder.cell.state_dict().items()})
    offsets = np.cumsum([0, *lengths])
    x_TD, times_T = torch.randn(9, 8, generator=torch.Generator().manual_seed(1)), np.zeros(9, np.int64)
    found = encoder(x_TD, sequence_layout(offsets, times_T, times_T))
    for low, high in pairwise(offsets.tolist()):
        states = reference(x_TD[low:high][None])[0][0]
        assert torch.allclose(found[low:high], torch.nn.functional.normalize(states, dim=-1), atol=1e-6)


@pytest.mark.parametrize("encoder", ["gru4rec", "sasrec"])
def test_an_online_peer_learns_what_it_was_just_asked(encoder: Literal["gru4rec", "sasrec"]) -> None:
    """A step on the wrong logits would lower nothing."""
    peer = OnlineSequencePeer(SequencePeerSettings(encoder=encoder, max_items=20, dim=16))
    visits = [visit(0, [1], 2), visit(1, [3], 4)]
    before = peer.scores(visits, 10)
    for _ in range(30):
        peer.scores(visits, 10)
        peer.learn(visits)
    after = peer.scores(visits, 10)
    assert (before.argmax(1) == [2, 4]).sum() < 2
    assert after.argmax(1).tolist() == [2, 4]


def test_a_frozen_peer_learns_at_the_end_of_its_events_and_never_again() -> None:
    """An offline model that went on learning would hide what freezing costs."""
    settings = SequencePeerSettings(encoder="sasrec", max_items=20, dim=16, dropout=0.2)
    peer = FrozenSequencePeer(settings, num_events=200, num_epochs=60)
    cycle = [visit(number, [number % 4], (number + 1) % 4, number=number) for number in range(16)]
    assert not peer.scores(cycle, 4).any()
    peer.learn(cycle)
    later = [visit(20 + item, [item], 0, number=200) for item in range(4)]
    found = peer.scores(later, 4)
    assert found.argmax(1).tolist() == [1, 2, 3, 0]
    for _ in range(5):
        peer.learn([visit(20 + item, [item], item, number=300) for item in range(4)])
    assert peer.scores(later, 4).tobytes() == found.tobytes()


def test_a_long_user_is_trained_in_stretches_that_positions_have_room_for() -> None:
    """Training would fail at the first user with more than 228 events."""
    settings = SequencePeerSettings(encoder="sasrec", max_items=20, dim=16)
    peer = FrozenSequencePeer(settings, num_events=400, num_epochs=1)
    items = [number % 5 for number in range(400)]
    peer.learn([visit(0, items[:number], items[number], number=number) for number in range(400)])
    assert np.isfinite(peer.scores([visit(0, items, 0, number=400)], 5)).all()
