"""The online learner: one step scores the new events with the weights as they are, then learns them.

Shapes: Q retrieval targets, E new events, I rows of the item table (padded), A action types.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch

from model.action_rates import ActionRates
from model.batch import NewEvents, order_events
from model.contents import Description
from model.dense_average import DenseAverage
from model.frequency import Frequency
from model.heartbeat import Heartbeat
from model.item_keys import item_keys
from model.layout import Integers
from model.living_items import LivingItems
from model.network import Network, dense_arrays
from model.objective import Objective, Pass
from model.optimizer import DenseOptimizer
from model.prequential import PrequentialMeter, Targets, join_targets
from model.replay import ReplayBuffer
from model.retrieval_loss import RetrievalLoss
from model.rivals import Rivals, join_rivals
from model.scoring import Scoring
from model.sequence import NEW_ACTION, NEW_EXPOSURE, UserSequence
from model.settings import LearnSettings, ModelSettings
from model.short_windows import shortened
from model.step_report import StepReport
from model.stochastic_length import StochasticLength
from model.value_scale import ValueScale
from model.windows import EncodedSequence, Window, cut_windows, most_events

Arrays = dict[str, np.ndarray]


class OnlineLearner:
    """Model, optimizer, replay and meter of one trainer.

    `frozen` may be set at any time: a frozen learner scores, counts and admits ids, but its weights stay. The
    process-wide number of torch threads is set to the settings'.
    """

    def __init__(self, model_settings: ModelSettings, learn_settings: LearnSettings) -> None:
        self.model_settings = model_settings
        self.learn_settings = learn_settings
        self.frozen = False
        self.num_events = 0
        self.num_steps = 0
        self.num_skipped = 0
        self.num_evicted = 0
        self.meter, self.heartbeat = PrequentialMeter(), Heartbeat()
        torch.set_num_threads(learn_settings.num_threads)
        device = pick_device(learn_settings.device)
        self._generators = _generators(learn_settings.seed, device)
        self._network = Network(model_settings)
        self._network.reset(self._generators["rows"], self._generators["dropout"])
        self._network.to(device)
        self._average = DenseAverage(self._network, learn_settings.average_steps)
        self._optimizer = DenseOptimizer(self._network, learn_settings.dense_rate, learn_settings.max_gradient_norm)
        self._items = LivingItems(model_settings, learn_settings, self._network, self._generators["rows"], device)
        self._rates, self._values = ActionRates(len(model_settings.actions)), ValueScale()
        self._objective = Objective(
            model_settings,
            learn_settings,
            self._network,
            self._items,
            self._rates,
            self._values,
            self._generators["negatives"],
        )
        self._retrieval_loss = RetrievalLoss(model_settings, self._network, self._items, learn_settings)
        self._scoring, self._frequency = Scoring(model_settings, self._items), Frequency()
        self._most_events = most_events(model_settings.window, self._network.token_order)
        self._replay = ReplayBuffer(learn_settings.replay_users, self._most_events, learn_settings.seed)

    @property
    def num_items(self) -> int:
        """Items that have a row."""
        return len(self._items.vocabulary)

    @property
    def num_described(self) -> int:
        """Items that the catalogue describes."""
        return len(self._items.contents)

    def step(self, sequences: Sequence[UserSequence]) -> StepReport:
        """Admit ids, score the new events with the current weights, then learn them (with some of the past).

        1. Ids of new events get a row, in the order of the stream, where they are admitted. 2. One forward pass over
        windows that hold each new event once. 3. One optimizer step on the same pass (with stochastic length: on
        another, over shorter windows) and on replayed sequences. 4. Ranks and probabilities, taken before that step, go
        to the meter. 5. Now and then, ids that went stale lose their rows.
        Raises `ValueError` for a user that comes twice or columns of different lengths.
        """
        events = order_events(sequences, self.num_events)
        encoded = self._items.encode(sequences, events)
        for numbers in encoded:
            self.heartbeat.note(numbers.rows, 1_000 * numbers.seconds)
        if len(events) == 0:
            return self._report(events, join_targets([]), np.zeros((0, self._network.num_tasks), np.float32))
        windows = self._windows(encoded)
        past = [] if self.frozen else self._past()
        self._network.train(not self.frozen)
        shortens = self.learn_settings.length_alpha < 2 and not self.frozen
        # One draw for both passes: what is counted of the negatives is counted once.
        drawn = self._objective.draw()
        pass_, (told_EK, own_EK) = self._forward(events, windows, past, drawn, gradient=not (self.frozen or shortens))
        targets, rivals = self._scoring.score(self._objective, pass_, encoded)
        report = self._report(events, targets, told_EK.detach().cpu().numpy())
        if shortens:
            pass_, (told_EK, own_EK) = self._forward(events, self._shortened(windows), past, drawn, gradient=True)
        self._values.update(events.values)
        self._frequency.update(events.rows[events.is_target], self._items.vocabulary.num_rows)
        if not self.frozen:
            ranking = self._objective.ranking_loss(pass_, told_EK, own_EK)
            report = self._learn(report, pass_, ranking, past, rivals)
        self._count(events, encoded, report)
        for sequence, numbers in zip(sequences, encoded, strict=True):
            self._replay.put(sequence.user_id, numbers)
        self._evict()
        return report

    def rehearse(self) -> bool:
        """Take a step on the past alone; whether there was any. Nothing is scored or counted."""
        past = [] if self.frozen else self._past()
        if not any((each.rows * each.actions).any() for each in past):
            return False
        self._network.train()
        pass_ = self._objective.forward(order_events([], self.num_events), [], past, self._objective.draw())
        return self._take_step(self._retrieval_loss(pass_, past, self._frequency, join_rivals([])), pass_)

    def describe(self, told: Description) -> bool:
        """Take over what the catalogue says of an item from now on; of one that is to be forgotten nothing stays.

        False where as many are described as there may be.
        """
        if told.forgotten:
            rows = self._items.vocabulary.lookup(item_keys([told.item_id]))
            self._drop(rows[rows > 0])
        return self._items.contents.describe(told)

    def withdraw(self, item_id: str) -> None:
        """Know nothing of what the catalogue said of an item."""
        self._items.contents.remove(item_id)

    def withdraw_all(self) -> None:
        """Know nothing of what the catalogue said of any item."""
        self._items.undescribe()

    def forget(self, user_id: str) -> None:
        """Draw nothing of a user's past any more; the weights keep what they learned of it."""
        self._replay.forget(user_id)

    def first_not_finite(self) -> str | None:
        """Name of the first array of weights that holds a NaN or an infinity: dense ones, then `items.weight`."""
        rows, _ = self._items.table.state(self._items.vocabulary.num_rows)
        weights = dense_arrays(self._network) | rows
        return next((name for name, weight in weights.items() if not np.isfinite(weight).all()), None)

    def state(self) -> tuple[Arrays, Arrays]:
        """Copies of (what serving needs, what else training needs), for `restore`.

        Serving: `dense.*` averages over the last steps, `items.weight` float32 [rows, D], `items.id_bytes` uint8,
        `items.id_ends` int64, `items.live` uint8 [rows] whether the row is somebody's (row 0 never is), `items.count`
        float32 decayed count of actions, `memory.successors` int32 [rows, 16] and `memory.counts` float32 what followed
        each item (see `TransitionMemory`), `rates.items` float32 [rows, 1 + A] exposures and actions of each item,
        `rates.total` float32 [1 + A] those of all, `values.scale` float64 [3] (see `ValueScale`).
        """
        num_rows = self._items.vocabulary.num_rows
        model, trainer = self._items.state()
        counted, counting = self._scoring.state(num_rows)
        model |= counted | self._rates.state(num_rows) | self._values.state()
        averages, weights = self._average.state()
        model |= averages
        trainer |= weights | counting | self._optimizer.state() | self._replay.state() | self.meter.state()
        trainer |= self._frequency.state() | self.heartbeat.state(num_rows)
        for name, generator in self._generators.items():
            trainer[f"generator.{name}"] = generator.get_state().numpy().copy()
        counters = [self.num_events, self.num_steps, self.num_skipped, int(self.frozen), self.num_evicted]
        trainer["learner.counters"] = np.array(counters)
        return model, trainer

    @classmethod
    def restore(
        cls,
        model_settings: ModelSettings,
        learn_settings: LearnSettings,
        model: Mapping[str, np.ndarray],
        trainer: Mapping[str, np.ndarray],
    ) -> "OnlineLearner":
        """A learner that goes on, bit for bit, like the one whose `state` this is.

        Raises `ValueError` where arrays do not fit the model settings.
        """
        learner = cls(model_settings, learn_settings)
        learner._load(model, trainer)
        return learner

    def _load(self, model: Mapping[str, np.ndarray], trainer: Mapping[str, np.ndarray]) -> None:
        self._average.load(model, trainer)
        self._items.load(model, trainer)
        self._rates.load(model)
        self._values.load(model)
        self._scoring.load(model, trainer)
        for part in (self._optimizer, self._replay, self._frequency, self.meter, self.heartbeat):
            part.load(trainer)
        for name, generator in self._generators.items():
            generator.set_state(torch.from_numpy(trainer[f"generator.{name}"].copy()))
        counters = trainer["learner.counters"].tolist()
        self.num_events, self.num_steps, self.num_skipped, frozen, self.num_evicted = counters
        self.frozen = bool(frozen)

    def _evict(self) -> None:
        """Take rows back from stale ids; between steps, so that the batch at hand is never concerned."""
        rows = self._items.stale(self.num_events)
        if len(rows):
            self._drop(rows)
            self.num_evicted += len(rows)

    def _drop(self, rows: Integers) -> None:
        """Leave nothing of the items that have these rows."""
        for part in (self._scoring, self._rates, self._frequency, self.heartbeat, self._items):
            part.clear(rows)

    def _windows(self, encoded: Sequence[EncodedSequence]) -> list[Window]:
        """Windows of all new events, by the first that each covers."""
        order, most = self._network.token_order, self.model_settings.window
        windows = [window for sequence in encoded for window in cut_windows(sequence, most, order)]
        return sorted(windows, key=lambda window: int(window.sequence.place[window.targets[0]]))

    def _past(self) -> list[EncodedSequence]:
        """Sequences of the past that a step learns again."""
        return self._replay.draw(self.learn_settings.replay_events, self._items.known)

    def _shortened(self, windows: Sequence[Window]) -> list[Window]:
        """Windows of a part of long contexts; which part follows from the seed and from where the stream is."""
        settings = self.learn_settings
        lengths = StochasticLength(
            alpha=settings.length_alpha, longest=self._most_events, selection=settings.length_selection
        )
        draws = np.random.default_rng([settings.seed, self.num_events])
        return [shortened(window, lengths, draws, self._network.token_order) for window in windows]

    def _forward(
        self,
        events: NewEvents,
        windows: Sequence[Window],
        past: Sequence[EncodedSequence],
        drawn: torch.Tensor,
        *,
        gradient: bool,
    ) -> tuple[Pass, tuple[torch.Tensor, torch.Tensor]]:
        """A pass, and what its ranking head gives (see `Objective.ranking`)."""
        with torch.set_grad_enabled(gradient):
            pass_ = self._objective.forward(events, windows, past, drawn)
            return pass_, self._objective.ranking(pass_)

    def _count(self, events: NewEvents, encoded: Sequence[EncodedSequence], report: StepReport) -> None:
        logits_E = report.action_logits_EA[:, self.model_settings.positive_index].astype(np.float64)
        first = events.new & (NEW_EXPOSURE | NEW_ACTION) != 0
        labels = (events.actions >> self.model_settings.positive_index) & 1 == 1
        self.meter.update(report.targets)
        self.heartbeat.update(events, encoded, report.targets)
        self._rates.update(events)
        told = logits_E[first], labels[first], events.is_late[first]
        self.meter.update_labels(events.numbers[first], *told)
        self.heartbeat.update_labels(*told)
        self.num_events += len(events)
        self.meter.advance(self.num_events)

    def _learn(
        self,
        report: StepReport,
        pass_: Pass,
        ranking: torch.Tensor,
        past: Sequence[EncodedSequence],
        rivals: Rivals,
    ) -> StepReport:
        """One step on rows and dense weights; none at all where a loss or a gradient is not finite.

        Returns the report with the losses, and with whether the step was skipped.
        """
        retrieval = self._retrieval_loss(pass_, past, self._frequency, rivals)
        learned = self._take_step(retrieval + self.learn_settings.ranking_weight * ranking, pass_)
        return replace(
            report,
            learned=learned,
            skipped=not learned,
            retrieval_loss=retrieval.item(),
            ranking_loss=ranking.item(),
        )

    def _take_step(self, loss: torch.Tensor, pass_: Pass) -> bool:
        """Whether all was finite, so that it was taken."""
        self._optimizer.clear()
        torch.autograd.backward(loss)
        gradient = pass_.leaf.own_UD.grad
        assert gradient is not None
        learned = bool(torch.isfinite(gradient).all()) and self._optimizer.step()
        if learned:
            self._items.table.period = self.num_events // self.learn_settings.fade_events
            self._items.table.learn(pass_.leaf.rows_U, gradient)
            self._average.update()
            self.num_steps += 1
        else:
            self.num_skipped += 1
        return learned

    def _report(self, events: NewEvents, targets: Targets, told_EK: npt.NDArray[np.float32]) -> StepReport:
        """What a step that has only scored so far did."""
        num_actions, values_E = len(self.model_settings.actions), np.full(len(events), np.nan)
        if self.model_settings.predict_values:
            values_E = self._values.values(told_EK[:, num_actions].astype(np.float64))
        return StepReport(
            num_events=len(events),
            learned=False,
            skipped=False,
            retrieval_loss=float("nan"),
            ranking_loss=float("nan"),
            targets=targets,
            action_logits_EA=told_EK[:, :num_actions],
            values_E=values_E,
        )


def pick_device(device: str) -> torch.device:
    """The torch device of a setting; raises `ValueError` for `cuda` where there is none."""
    available = torch.cuda.is_available()
    if device == "cuda" and not available:
        raise ValueError("device must be auto or cpu where torch finds no CUDA device, got cuda")
    return torch.device("cuda" if available and device != "cpu" else "cpu")


def _generators(seed: int, device: torch.device) -> dict[str, torch.Generator]:
    return {
        "rows": torch.Generator().manual_seed(seed),
        "negatives": torch.Generator().manual_seed(seed + 1),
        "dropout": torch.Generator(device).manual_seed(seed + 2),
    }
