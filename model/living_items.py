"""Items as the learner has them: who has a row, what the rows have learned, and which are taken back.

Shapes: E new events, Q targets, N new rows, I rows, U distinct ones, D width.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch

from model.admission import Where, make_admission
from model.batch import NewEvents, SequenceItems, encode_sequence
from model.contents import FORGOTTEN_KEY, Contents
from model.eviction import Capacity, Ttl
from model.forward import Leaf
from model.item_keys import item_keys
from model.item_table import ItemTable
from model.layout import Integers
from model.network import Network
from model.sequence import UserSequence
from model.settings import COLUMN_TILE, LearnSettings, ModelSettings
from model.vocabulary import Vocabulary
from model.windows import EncodedSequence

_LOOK_EVERY_EVENTS = 10_000
"""How often it is looked for ids whose time is over; a full vocabulary does not wait for it."""


class LivingItems:
    """A vocabulary and its table of weights, which begin, are kept and end together, and what the catalogue says."""

    def __init__(
        self,
        model: ModelSettings,
        learn: LearnSettings,
        network: Network,
        generator: torch.Generator,
        device: torch.device,
    ) -> None:
        self._model, self._learn, self._network = model, learn, network
        admission = make_admission(
            learn.admission,
            sightings=learn.admit_after,
            until=learn.admit_until,
            max_items=learn.max_items,
            seed=learn.seed,
        )
        self.undescribe()
        self.vocabulary = Vocabulary(learn.max_items, Where(admission, lambda keys_N, _: keys_N != FORGOTTEN_KEY))
        self._capacity, self._ttl = Capacity(max_items=learn.max_items), Ttl(86_400 * learn.item_ttl_days or math.inf)
        num_rows = -(-(1 + learn.max_items) // COLUMN_TILE) * COLUMN_TILE
        self.table = ItemTable(model.dim, num_rows, learn.row_rate, generator, device)
        self._seconds = 0
        self._looked = 0

    def undescribe(self) -> None:
        """Begin with a catalogue that says nothing."""
        self.contents = Contents(self._learn.max_described, self._model.content_rows)

    def encode(self, sequences: Sequence[UserSequence], events: NewEvents) -> list[EncodedSequence]:
        """Sequences in numbers; ids of new events are admitted, in their order.

        The context of all of them has the rows that it had before: what comes later in the batch does not change it.
        """
        items = [self.known(item_keys(sequence.item_ids)) for sequence in sequences]
        if len(events):
            events.rows[:] = self._see(events, sequences, items)
        encoded = []
        for owner, (sequence, known) in enumerate(zip(sequences, items, strict=True)):
            own, place = np.flatnonzero(events.owners == owner), np.full(len(known.rows), -1)
            place[events.indexes[own]] = own
            known.rows[events.indexes[own]] = events.rows[own]
            numbers, entries = encode_sequence(sequence, known, place, self._model)
            events.indexes[own] = entries[events.indexes[own]]
            encoded.append(numbers)
        return encoded

    def known(self, keys_N: Integers) -> SequenceItems:
        """Items as they are known now, by the keys of their ids."""
        keys_N = self.contents.known_keys(keys_N)
        return SequenceItems(keys_N, self.vocabulary.lookup(keys_N))

    def leaf(self, rows_U: torch.Tensor) -> Leaf:
        """Rows, each once, for a step that may change them."""
        own_UD = self.table.gather(rows_U)
        return Leaf(rows_U, own_UD, own_UD + self._content(rows_U), self.contents)

    def vectors(self, rows_I: torch.Tensor) -> torch.Tensor:
        """Items by row, [I, D]."""
        return self.table.weight[rows_I] + self._content(rows_I)

    def candidates(self, targets: NewEvents, num_rows: int) -> npt.NDArray[np.bool_]:
        """Which of the first rows may be answered before each target, [Q, I]; what may not be shown, as the target."""
        before_QI = self.vocabulary.before(targets.numbers, num_rows)
        own_Q = before_QI[np.arange(len(targets)), targets.rows]
        before_QI[:, self.hidden()] = False
        before_QI[np.arange(len(targets)), targets.rows] = own_Q
        return before_QI

    def hidden(self) -> Integers:
        """Rows of the items that may not be shown."""
        rows = self.vocabulary.lookup(self.contents.hidden())
        return rows[rows > 0]

    def stale(self, number: int) -> Integers:
        """Rows to be taken back after so many events of the stream."""
        period = number // _LOOK_EVERY_EVENTS
        is_due = period > self._looked and self._ttl.seconds < math.inf
        if not is_due and len(self.vocabulary) < self._capacity.high * self._learn.max_items:
            return np.zeros(0, np.int64)
        self._looked = period
        seen = self.vocabulary.sightings(self._seconds, number)
        return np.unique(np.concatenate([rule.victims(seen) for rule in (self._capacity, self._ttl)]))

    def clear(self, rows: Integers) -> None:
        """Take rows back."""
        self.table.clear(rows)
        self.vocabulary.take_back(rows)

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Copies of (what serving needs, what else `load` needs)."""
        (model, trainer), (ids, seen) = self.table.state(self.vocabulary.num_rows), self.vocabulary.state()
        clock = {"items.clock": np.array([self._seconds, self._looked])}
        return model | ids | self.contents.state(), trainer | seen | clock

    def load(self, model: Mapping[str, np.ndarray], trainer: Mapping[str, np.ndarray]) -> None:
        """Take over a `state`."""
        self.vocabulary.load(model, trainer)
        self.table.load(model, trainer)
        self.contents.load(model)
        self._seconds, self._looked = trainer["items.clock"].tolist()

    def _see(self, events: NewEvents, sequences: Sequence[UserSequence], items: Sequence[SequenceItems]) -> Integers:
        """Rows of new events; a new row begins with what its id's shared rows have learned."""
        places = list(zip(events.owners.tolist(), events.indexes.tolist(), strict=True))
        keys_E = np.array([items[owner].keys[index] for owner, index in places])
        item_ids = [sequences[owner].item_ids[index] for owner, index in places]
        seconds_E = np.array([sequences[owner].ts_ms[index] for owner, index in places]) // 1_000
        self._seconds = max(self._seconds, int(seconds_E.max()))
        rows_E, new_rows = self.vocabulary.admit(keys_E, item_ids, seconds_E, events.numbers)
        with torch.no_grad():
            self.table.begin(new_rows, self._network.shared(self.vocabulary.keys(new_rows)))
        return rows_E

    def _content(self, rows_I: torch.Tensor) -> torch.Tensor:
        return self._network.content(self.contents.words(self.vocabulary.keys(rows_I.cpu().numpy())))
