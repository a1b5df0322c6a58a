"""What the server takes and answers, as HTTP clients and `/docs` see it."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, Field
from pydantic.config import JsonDict

from deploy.delay_bins import DelayBins
from deploy.serve_settings import MAX_BATCH, MAX_BATCH_K, MAX_RANKED
from streams.events import MAX_ID_BYTES


def check_id(value: str) -> str:
    """The id; raises `ValueError` where it is not 1 to 256 bytes of UTF-8."""
    try:
        size = len(value.encode())
    except UnicodeEncodeError as error:
        raise ValueError("must be valid UTF-8, got a lone surrogate") from error
    if not 1 <= size <= MAX_ID_BYTES:
        raise ValueError(f"must be 1 to {MAX_ID_BYTES} bytes of UTF-8, got {size}")
    return value


# The description cannot count bytes; what is too long in characters is so in bytes.
_LENGTHS: JsonDict = {"minLength": 1, "maxLength": MAX_ID_BYTES}
Id = Annotated[
    str,
    AfterValidator(check_id),
    Field(description=f"1 to {MAX_ID_BYTES} bytes of UTF-8", json_schema_extra=_LENGTHS),
]


MinVersion = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}/v[0-9]{1,9}$",
        description="Answer with this version or a later one of its run: what `model_version` of another answer was",
        examples=["20260901-101500/v42"],
    ),
]


class ErrorAnswer(BaseModel):
    """Why there is no other answer."""

    error: str


class Answer(BaseModel):
    """What every answer of a model carries."""

    model_version: str = Field(description="The one version that made this answer", examples=["20260901-101500/v42"])
    model_age_seconds: float = Field(description="Time since the version was cut")
    alias: str = Field(description="The alias that stands for the version: that of the users' side, with a canary")
    user_id: str
    applied: int = Field(description="Offset of the newest event that the user's sequence can contain")


class ItemFacts(BaseModel):
    """An item as the catalogue describes it; empty where the catalogue does not know it."""

    item_id: str
    title: str
    categories: list[str]


class Recommendation(ItemFacts):
    """An item and what the model gives it."""

    score: float = Field(description="Of retrieval, plus weight x probability for each of the server's action weights")
    actions: dict[str, float] | None = Field(
        default=None, description="Probability of each action; null where the server ranks by none"
    )
    why: Literal["model", "fresh"] = Field(
        default="model", description="`fresh`: new in the catalogue, in a place that is kept for such"
    )


class RecommendAnswer(Answer):
    """The best items for the user now, best first, then new ones in the places that are kept for them.

    Items that are not available are never among them.
    """

    items: list[Recommendation]


class BatchRequest(BaseModel):
    """For whom to recommend."""

    user_ids: Annotated[list[Id], Field(min_length=1, max_length=MAX_BATCH)]
    k: Annotated[int, Field(ge=1, le=MAX_BATCH_K, description="Length of each list")] = 10
    min_version: MinVersion | None = None


class BatchPart(BaseModel):
    """One user's answer, or why there is none."""

    user_id: str
    answer: RecommendAnswer | None = None
    error: str | None = None


class BatchAnswer(BaseModel):
    """An answer or an error for each user, in the order asked; the answers of one alias are all of one version."""

    answers: list[BatchPart]


class RankRequest(BaseModel):
    """Which items to rank for whom."""

    user_id: Id
    item_ids: Annotated[list[Id], Field(min_length=1, max_length=MAX_RANKED)]
    min_version: MinVersion | None = None


class RankedItem(ItemFacts):
    """An item and how likely each action on it is."""

    scores: dict[str, float] = Field(description="Probability of each action type")


class RankAnswer(Answer):
    """The items in the order in which they were asked, without those that are not available."""

    items: list[RankedItem]
    unavailable: list[str] = Field(description="Items left out because they are not available")


class SequenceEvent(ItemFacts):
    """An event of the user's sequence."""

    ts_ms: int = Field(description="Event time, milliseconds since 1970")
    actions: list[str] = Field(description="What the user did; empty for a bare exposure")
    value: float | None = Field(description="The newest value that came with an action")
    group: int = Field(description="Events of one impression share a number")


class SequenceAnswer(BaseModel):
    """The user's newest events, oldest first, from the worker that owns the user's partition."""

    model_version: str | None = Field(description="The version that would answer now; null before the first")
    model_age_seconds: float | None
    user_id: str
    partition: int
    epoch: int = Field(description="How often the log was made anew")
    applied: int = Field(description="Offset of the newest event that the sequence can contain")
    features: dict[str, str | int | float | bool]
    events: list[SequenceEvent]


class ExplainedEvent(SequenceEvent):
    """An event, and what it has to do with an item's score."""

    change: float = Field(description="The item's score, less what it would be had this event not happened")
    learned: bool = Field(
        description="Whether the weights have learned samples as new as this event; its own may still wait for the "
        "user's next sample"
    )


class ExplainAnswer(Answer):
    """Why an item has the score that it has for the user now; `score` is the sum of the three parts."""

    item: ItemFacts
    available: bool = Field(description="Whether it may be recommended")
    acted_on: bool = Field(description="Whether the user acted on it, so that it is not recommended")
    has_row: bool = Field(description="Whether the model knows the item itself; its words and shared rows otherwise")
    score: float = Field(description="What retrieval gives it: log odds but for a constant of the user's")
    similarity: float = Field(description="For its likeness to what the user's history leads to")
    popularity: float = Field(description="For how often it was acted on lately")
    transitions: float = Field(description="For how often it followed the user's last items lately")
    actions: dict[str, float] = Field(description="Probability of each action")
    events: list[ExplainedEvent] = Field(description="The user's newest events, what changed the score most first")
    last_event_ms: int | None = Field(description="Event time of the user's newest event; null without events")
    learned_offset: int | None = Field(
        description="Offset in the user's partition up to which the weights have learned; null before the first"
    )
    version_ms: int = Field(description="When the version was cut, milliseconds since 1970")


class SideHealth(BaseModel):
    """An alias whose version answers, and how good its lists are."""

    alias: str
    share: float = Field(description="Share of the users that it is to answer")
    model_version: str | None = Field(description="Null where it has none; the champion answers its users then")
    problem: str | None = Field(description="Why the alias' version cannot be had")
    lists_followed: int = Field(description="Lists of this server after which their user acted")
    hit_rate: float | None = Field(description="Share of those of whose first ten items one was acted on")
    prequential: dict[str, float] = Field(description="What the learner measured until it cut the version")


class HealthAnswer(BaseModel):
    """The server can answer."""

    status: str
    model_version: str
    model_age_seconds: float
    alias: str = Field(description="The alias whose version this server answers with")
    generation: int = Field(description="How often the alias has been moved; the same on every server that has seen it")
    pinned: bool = Field(description="Whether the alias is held to one version (a rollback) instead of the newest")
    learned: dict[str, int] = Field(
        description="By partition of `events`: offset of the newest record whose sample the weights have learned"
    )
    now_ms: int = Field(description="The stream's present: the newest learned event's time, and what passed since")
    problem: str | None = Field(description="Why the alias' version, or news of the catalogue, cannot be had")
    sides: list[SideHealth] = Field(description="The alias, and the canary where there is one")


class Delays(BaseModel):
    """Quantiles of a delay; null before the first measurement."""

    count: int
    p50_seconds: float | None
    p95_seconds: float | None

    @classmethod
    def of(cls, bins: DelayBins) -> "Delays":
        """Of all that was counted so far."""
        return cls(count=bins.count, p50_seconds=bins.quantile_seconds(0.5), p95_seconds=bins.quantile_seconds(0.95))


class FreshnessAnswer(BaseModel):
    """How old events are when an answer first knows them, over all of them since the server's start."""

    event_to_weights: Delays
    parts: dict[str, Delays] = Field(description="What that is made up of, in the order of a record's way")
    versions_seen: int = Field(description="Versions loaded since the server's start")
    model_version: str | None
    model_age_seconds: float | None
