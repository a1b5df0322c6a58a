"""What the model is and how it learns: two frozen trees of numbers."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

from model.admission_names import AdmissionName
from model.stochastic_length import Selection
from model.token_order import TOKEN_ORDERS, LayoutName

TILE = 32
"""Rows in a tile: token counts and query counts are padded to multiples of it."""
COLUMN_TILE = 8 * TILE
"""Rows of the item table that are scored are padded to multiples of this."""


def _require(ok: bool, name: str, allowed: str, got: object) -> None:
    if not ok:
        raise ValueError(f"{name} must be {allowed}, got {got!r}")


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelSettings:
    """Shape of the model; two trainers can share snapshots only where these are equal."""

    actions: tuple[str, ...] = ("click", "like", "dislike", "rate")
    """Action names; bit i of an action mask stands for name i. The stream's settings hold the same."""
    positive_action: str = ""
    """The action whose AUC and normalized entropy are reported; empty: `like` if there is one, else the first."""
    dim: int = 64
    """Width of tokens and item rows."""
    num_layers: int = 2
    """HSTU layers."""
    num_heads: int = 2
    """Attention heads; each has dim / num_heads features for keys and for values."""
    window: int = 128
    """Tokens that one prediction can see, BOS among them; also the constant that attention divides by."""
    layout: LayoutName = "targets"
    """`targets`: one token an event, and one for each prediction; `interleaved`: items and actions in turns, the
    published layout, which sees half as many events in a window."""
    temperature: float = 0.2
    """Initial temperature of the retrieval softmax; a learned scalar from there."""
    dropout: float = 0.0
    """Share of the gated attention output dropped while learning."""
    exact_softmax_rows: int = 10_000
    """Up to so many items the retrieval loss is the exact softmax over all of them; sampled above."""
    num_negatives: int = 1_024
    """Uniform negatives that a step draws beside the batch's own targets, once the softmax is sampled."""
    ranking_experts: int = 1
    """Experts of the ranking head, which each action mixes by a gate of its own (MMoE); 1: one layer for all."""
    predict_values: bool = False
    """Whether the ranking head predicts the value that comes with an action (seconds of play, stars), too."""
    action_rates: bool = True
    """Whether the ranking head is given how often item and user were acted on so far."""
    transition_memory: bool = True
    """Whether what followed a user's last items lately adds to the scores of retrieval."""
    popularity_prior: bool = True
    """Whether an item's decayed count of actions adds to its score in retrieval."""
    feature_rows: int = 1_024
    """Rows that names and values of user features share by hash; 0: the model is told of none."""
    shared_rows: int = 256
    """Rows that stand, two together, for ids that have none of their own."""
    content_rows: int = 4_096
    """Rows that the words of what the catalogue says of items share by hash; 0: the model is told of none."""

    def __post_init__(self) -> None:
        _require(1 <= len(self.actions) <= 31, "actions", "1 to 31 names", self.actions)
        _require(len(set(self.actions)) == len(self.actions), "actions", "distinct", self.actions)
        allowed = ("", *self.actions)
        _require(self.positive_action in allowed, "positive_action", f"one of {allowed}", self.positive_action)
        _require(self.num_heads >= 1, "num_heads", ">= 1", self.num_heads)
        _require(self.dim >= 8 and self.dim % self.num_heads == 0, "dim", "a multiple of num_heads, >= 8", self.dim)
        _require(self.num_layers >= 1, "num_layers", ">= 1", self.num_layers)
        layouts = get_args(LayoutName)
        _require(self.layout in layouts, "layout", f"one of {layouts}", self.layout)
        least = TILE * TOKEN_ORDERS[self.layout].tokens_per_event
        allowed_window = f"a multiple of {TILE}, >= {least} with this layout"
        _require(self.window >= least and self.window % TILE == 0, "window", allowed_window, self.window)
        _require(self.temperature > 0, "temperature", "> 0", self.temperature)
        _require(0 <= self.dropout < 1, "dropout", "in [0, 1)", self.dropout)
        _require(self.exact_softmax_rows >= 0, "exact_softmax_rows", ">= 0", self.exact_softmax_rows)
        _require(self.num_negatives >= 1, "num_negatives", ">= 1", self.num_negatives)
        _require(self.ranking_experts >= 1, "ranking_experts", ">= 1", self.ranking_experts)
        _require(self.feature_rows >= 0, "feature_rows", ">= 0", self.feature_rows)
        _require(self.shared_rows >= 1, "shared_rows", ">= 1", self.shared_rows)
        _require(self.content_rows == 0 or self.content_rows >= 2, "content_rows", "0 or >= 2", self.content_rows)

    @property
    def counts(self) -> tuple[str, ...]:
        """What is counted beside the model's scores in retrieval, in the order of their gates."""
        return ("transitions",) * self.transition_memory + ("popularity",) * self.popularity_prior

    @property
    def positive_index(self) -> int:
        """Index into `actions` of the action that AUC and normalized entropy are about.

        >>> ModelSettings(actions=("click", "like")).positive_index
        1
        """
        name = self.positive_action or ("like" if "like" in self.actions else self.actions[0])
        return self.actions.index(name)


@dataclass(frozen=True, kw_only=True, slots=True)
class LearnSettings:
    """How the online learner steps; may change between two runs on the same weights."""

    batch_events: int = 128
    """New events that a step is meant to hold; the caller groups them."""
    dense_rate: float = 3e-3
    """AdamW learning rate of everything but item rows."""
    average_steps: int = 20
    """Steps that the dense weights are averaged over for serving; 1: as they are."""
    row_rate: float = 0.02
    """Row-wise AdaGrad learning rate of item rows."""
    ranking_weight: float = 2.0
    """Weight of the ranking loss beside the retrieval loss."""
    delayed_feedback: bool = True
    """Whether an action that comes after its exposure was learned without it takes that back; else both are learned."""
    target_weights: tuple[float, ...] = ()
    """Weight of each action, in the order of `actions`, where it is to be predicted by retrieval; empty: 1 each. Of
    several actions on an event the heaviest counts; nothing is learned from finding an event of weight 0."""
    logq: Literal["refined", "plain"] = "refined"
    """How a sampled softmax allows for frequent negatives; `plain` takes the target, too, as if it had been drawn."""
    replay_events: int = 400
    """Events of past sequences in each step, whole ones, drawn evenly from all users so far; retrieval loss only."""
    replay_users: int = 10_000
    """Users whose newest window is kept for replay."""
    length_alpha: float = 2.0
    """Of stochastic length, in (1, 2]: of a long context about window^(alpha / 2) events are learned from; 2: all."""
    length_selection: Selection = "weighted"
    """Which events of a shortened context stay."""
    max_items: int = 1_000_000
    """Ids that have a row of their own at one time; what that takes is reserved, and used as they come."""
    max_described: int = 1_000_000
    """Items of which the model knows what the catalogue says; of more it is told nothing, with a warning."""
    admission: AdmissionName = "always"
    """Which new ids get a row: all; `seen`: those seen `admit_after` times lately, as a sketch counts; `probabilistic`:
    95 % of those seen so often, by chance, which takes no memory (Liu et al. 2022, section 2.2.1)."""
    admit_after: int = 2
    """Sightings after which an id is admitted, where not all are."""
    admit_until: int = 0
    """Event of the stream from which on no id is admitted, to see what a vocabulary that lives is worth; 0: none."""
    item_ttl_days: float = 0.0
    """Days of event time after which an id that did not come again loses its row; 0: never. Where 90 % of the rows are
    taken, those seen least lately lose theirs, down to 80 %."""
    fade_events: int = 2_000
    """Events after which what item rows remember of their gradients counts .9 as much."""
    max_gradient_norm: float = 1.0
    """Dense gradients are scaled down to this norm."""
    seed: int = 0
    """Seed of every random draw."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto` is CUDA, with bf16 autocast, where there is a device; else the CPU."""
    num_threads: int = 1
    """Threads that torch uses in this process."""

    def __post_init__(self) -> None:
        _require(self.batch_events >= 1, "batch_events", ">= 1", self.batch_events)
        _require(self.dense_rate > 0, "dense_rate", "> 0", self.dense_rate)
        _require(self.average_steps >= 1, "average_steps", ">= 1", self.average_steps)
        _require(self.row_rate > 0, "row_rate", "> 0", self.row_rate)
        _require(self.ranking_weight >= 0, "ranking_weight", ">= 0", self.ranking_weight)
        finite = all(0 <= weight < math.inf for weight in self.target_weights)
        _require(finite, "target_weights", "numbers >= 0", self.target_weights)
        _require(not self.target_weights or max(self.target_weights) > 0, "target_weights", "not all 0", "zeros")
        _require(self.logq in ("refined", "plain"), "logq", "refined or plain", self.logq)
        _require(self.replay_events >= 0, "replay_events", ">= 0", self.replay_events)
        _require(self.replay_users >= 1, "replay_users", ">= 1", self.replay_users)
        _require(1 < self.length_alpha <= 2, "length_alpha", "in (1, 2]", self.length_alpha)
        selections = get_args(Selection)
        _require(self.length_selection in selections, "length_selection", f"one of {selections}", self.length_selection)
        _require(self.max_items >= 16, "max_items", ">= 16", self.max_items)
        _require(self.max_described >= 0, "max_described", ">= 0", self.max_described)
        admissions = get_args(AdmissionName)
        _require(self.admission in admissions, "admission", f"one of {admissions}", self.admission)
        _require(2 <= self.admit_after <= 255, "admit_after", "2 to 255", self.admit_after)
        _require(self.admit_until >= 0, "admit_until", ">= 0", self.admit_until)
        _require(self.item_ttl_days >= 0, "item_ttl_days", ">= 0", self.item_ttl_days)
        _require(self.fade_events >= 1, "fade_events", ">= 1", self.fade_events)
        _require(self.max_gradient_norm > 0, "max_gradient_norm", "> 0", self.max_gradient_norm)
        _require(self.seed >= 0, "seed", ">= 0", self.seed)
        _require(self.device in ("auto", "cpu", "cuda"), "device", "auto, cpu or cuda", self.device)
        _require(self.num_threads >= 1, "num_threads", ">= 1", self.num_threads)
