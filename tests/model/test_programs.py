"""The programs of an export, before they are one: their plain forward passes against the real ones."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor

from model.evaluation import Histories
from model.programs import RankingProgram, RetrievalProgram
from model.recommender import Recommender
from model.sequence import UserSequence
from model.settings import ModelSettings
from model.user_features import UserFeature
from model.window_batch import WindowBatch
from tests.model.synthetic import SMALL, feed, learner_factory, markov_stream

WIDE = dataclasses.replace(SMALL, layout="interleaved", window=64, num_layers=2, predict_values=True, ranking_experts=2)
BARE = dataclasses.replace(
    SMALL, num_heads=1, transition_memory=False, popularity_prior=False, action_rates=False, feature_rows=0
)
NOW_MS = 700_000


@pytest.fixture(params=[SMALL, WIDE, BARE], ids=["default", "wide", "bare"])
def recommender(request: pytest.FixtureRequest) -> Recommender:
    settings: ModelSettings = request.param
    learner = learner_factory(settings)
    feed(learner, markov_stream(320), Histories())
    return Recommender.from_state(settings, learner.state()[0])


def sequence_of(count: int) -> UserSequence:
    rng = np.random.default_rng(count)
    return UserSequence(
        user_id="u",
        item_ids=[f"i{number}" for number in rng.integers(70, size=count)],
        ts_ms=np.sort(rng.integers(NOW_MS, size=count)),
        actions=rng.integers(8, size=count),
        values=np.full(count, np.nan, np.float32),
        groups=np.cumsum(rng.integers(2, size=count)),
        new=np.zeros(count, np.int64),
        order=np.zeros(count, np.int64),
        features=(UserFeature(0, 0, "plan", "paid"),),
    )


def history_of(recommender: Recommender, batch: WindowBatch, last: int) -> dict[str, Tensor]:
    """A window's history tokens as the programs are told of them."""
    tokens = slice(0, last + 1)
    words = recommender._contents.words(batch.unknown_keys_S)
    embedded = recommender._network.embed(recommender._weight[batch.rows_T], batch, words)
    features = torch.full((batch.layout.num_tokens, 2), -1)
    for token, row in zip(batch.told_F.tolist(), batch.features_F.tolist(), strict=True):
        features[token, int(features[token, 0] >= 0)] = row
    return {
        "item_TD": embedded[tokens] / recommender._network.scale,
        "has_item_T": batch.has_item_T1[tokens, 0] > 0,
        "actions_T": batch.actions_T[tokens],
        "features_T2": features[tokens],
        "seconds_T": torch.from_numpy(batch.layout.seconds_T[tokens]),
        "query_seconds_T": torch.from_numpy(batch.layout.query_seconds_T[tokens]),
    }


@torch.inference_mode()
def test_the_plain_passes_give_what_the_blocked_ones_give(recommender: Recommender) -> None:
    """Others would serve another model than the one that was measured."""
    settings = recommender.settings
    retrieval, ranking = RetrievalProgram(recommender._network), RankingProgram(recommender._network)
    for count in (0, 1, 12, 90):
        asked = ["i3", "nobody has seen this", "i4"]
        window = recommender._window(sequence_of(count), NOW_MS, asked)
        batch, last = recommender._batch(window), recommender.history(sequence_of(count), NOW_MS)[1] - 1
        history = history_of(recommender, batch, last)
        units, counted = torch.eye(settings.dim), torch.ones(settings.dim, len(settings.counts))
        query, scores = retrieval(**history, unit_ID=units, counted_IG=counted)
        items, encoded = recommender._encode(batch)
        torch.testing.assert_close(query, encoded[last], rtol=0, atol=1e-6)
        wanted = recommender._network.retrieval(encoded[last : last + 1], units, counted[None])[0]
        torch.testing.assert_close(scores, wanted, rtol=0, atol=1e-5)
        rows = recommender._rows_of(asked)
        probabilities, values = ranking(
            **history,
            candidate_CD=items[batch.targets_E] / recommender._network.scale,
            counts_CF=torch.from_numpy(recommender._rates.state(99)["rates.items"][rows]),
            total_F=torch.from_numpy(recommender._rates.state(99)["rates.total"]),
            now_seconds=torch.tensor(NOW_MS // 1_000),
        )
        told = recommender._ranked(sequence_of(count), NOW_MS, asked)
        num_actions = len(settings.actions)
        torch.testing.assert_close(probabilities, told[:, :num_actions].sigmoid(), rtol=0, atol=1e-6)
        torch.testing.assert_close(values, told[:, num_actions:], rtol=0, atol=1e-5)
