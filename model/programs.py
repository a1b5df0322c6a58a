"""The two forward passes of serving as modules that `torch.export` takes, over the weights of one `Network`.

What is learned and dense is inside; what is found by id, or counted, comes in. One user at a time, with as many tokens
and items as there are: no tiles, no blocks. What they give equals what `Recommender` gives but for rounding.

Shapes: T history tokens, BOS first, I items to find among, C candidates to rank, D width, A action types, F counts
(exposures, then each action), G kinds of counts in retrieval, Q tokens that ask, K keys, h heads, d features of queries
and keys, e features of values.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram, export

from model.action_rates import rate_inputs
from model.bias import RelativeBias, time_buckets
from model.blocks import HIDDEN
from model.hstu import HSTULayer, unit_vectors
from model.network import Network


class HistoryProgram(nn.Module):
    """The backbone over one user's history: what both programs share.

    Inputs of both: `item_TD` float32, the vector of each token's item, zeros where it has none; `has_item_T` bool;
    `actions_T` int64, the mask of a token that tells of actions, -1 for the others; `features_T2` int64, rows of what
    it tells of the user, -1 for none; `seconds_T` and `query_seconds_T` int64, its time and the time that it asks at.
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.num_actions, self.scale = network.num_actions, network.scale
        self.features, self.user_features = network.features, network.user_features
        self.backbone = network.backbone.eval()

    def tokens(self, item_TD: Tensor, has_item_T: Tensor, actions_T: Tensor, features_T2: Tensor) -> Tensor:
        """What the backbone is given, [T, D]; see `Network`."""
        is_first_T = torch.arange(item_TD.shape[0]) == 0
        others_T3 = torch.stack([actions_T == 0, has_item_T & (actions_T < 0), is_first_T], -1)
        x_TD = item_TD + torch.cat([self.action_bits(actions_T), others_T3.float()], -1) @ self.features
        if len(self.user_features):
            told_T2D = self.user_features[features_T2.clamp(min=0)] * (features_T2 >= 0).unsqueeze(-1)
            x_TD = x_TD + told_T2D.sum(1)
        return x_TD * self.scale

    def action_bits(self, actions_T: Tensor) -> Tensor:
        """1.0 for each action of each token, [T, A]."""
        bit_A = torch.tensor([1 << action for action in range(self.num_actions)])
        return (actions_T.clamp(min=0).unsqueeze(-1) & bit_A != 0).float()

    def read(self, x_TD: Tensor, seconds_T: Tensor, query_seconds_T: Tensor) -> Iterator["_Read"]:
        """The history layer by layer."""
        index_T = torch.arange(x_TD.shape[0])
        distance_TT = index_T.unsqueeze(-1) - index_T
        buckets_TT = time_buckets(query_seconds_T.unsqueeze(-1) - seconds_T).long()
        for layer in self.backbone.layers:
            assert isinstance(layer, HSTULayer)
            u_TV, q_Thd, k_Thd, v_The = layer.project(x_TD)
            bias_TT = _bias(layer, distance_TT.clamp(min=0), buckets_TT).masked_fill(distance_TT < 0, HIDDEN)
            weights_hTT = layer.rule.weights(_products(q_Thd, k_Thd) + bias_TT)
            x_TD = layer.finish(x_TD, u_TV, _weighted(weights_hTT, v_The) / layer.rule.divisor)
            yield layer, k_Thd, v_The, x_TD


_Read = tuple[HSTULayer, Tensor, Tensor, Tensor]
"""A layer, the keys and values that it made of the history's tokens, and the tokens after it."""


class RetrievalProgram(HistoryProgram):
    """Who the user is now, and how well each item suits.

    Further inputs: `unit_ID` float32, the items' vectors at length 1, and `counted_IG` float32, logs of what is counted
    of each, in the order of `ModelSettings.counts`.
    """

    def __init__(self, network: Network) -> None:
        super().__init__(network)
        self.head = network.retrieval

    def forward(
        self,
        item_TD: Tensor,
        has_item_T: Tensor,
        actions_T: Tensor,
        features_T2: Tensor,
        seconds_T: Tensor,
        query_seconds_T: Tensor,
        unit_ID: Tensor,
        counted_IG: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """The query, a unit vector [D], and the score of each item [I]."""
        x_TD = self.tokens(item_TD, has_item_T, actions_T, features_T2)
        *_, (_, _, _, x_TD) = self.read(x_TD, seconds_T, query_seconds_T)
        query_D = unit_vectors(x_TD)[-1]
        return query_D, unit_ID @ query_D / self.head.temperature() + counted_IG @ self.head.gates


class RankingProgram(HistoryProgram):
    """What the user would do with each candidate: each sees the history and itself, asked now.

    Further inputs: `candidate_CD` float32, the items' vectors; `counts_CF` and `total_F` float32, exposures of each and
    of all items and the actions on them; `now_seconds` int64.
    """

    def __init__(self, network: Network) -> None:
        super().__init__(network)
        self.head = network.ranking

    def forward(
        self,
        item_TD: Tensor,
        has_item_T: Tensor,
        actions_T: Tensor,
        features_T2: Tensor,
        seconds_T: Tensor,
        query_seconds_T: Tensor,
        candidate_CD: Tensor,
        counts_CF: Tensor,
        total_F: Tensor,
        now_seconds: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Probability of each action [C, A], and the value to expect on the scale of `ValueScale`, [C, 1] or [C, 0]."""
        embedded_CD = candidate_CD * self.scale
        x_CD = embedded_CD + self.features[self.num_actions + 1] * self.scale
        distance_T = seconds_T.shape[0] - torch.arange(seconds_T.shape[0])
        buckets_T = time_buckets(now_seconds - seconds_T).long()
        x_TD = self.tokens(item_TD, has_item_T, actions_T, features_T2)
        for layer, k_Thd, v_The, _ in self.read(x_TD, seconds_T, query_seconds_T):
            u_CV, q_Chd, k_Chd, v_Che = layer.project(x_CD)
            scores_hCT = _products(q_Chd, k_Thd) + _bias(layer, distance_T, buckets_T)
            zero = torch.zeros(1, dtype=torch.int64)
            own_hC1 = (q_Chd * k_Chd).sum(-1).T.unsqueeze(-1) + _bias(layer, zero, zero)
            weights_hCK = layer.rule.weights(torch.cat([scores_hCT, own_hC1], -1))
            own_Che = weights_hCK[..., -1:].transpose(0, 1) * v_Che
            x_CD = layer.finish(x_CD, u_CV, (_weighted(weights_hCK[..., :-1], v_The) + own_Che) / layer.rule.divisor)
        events_TF = torch.cat([(actions_T >= 0).float().unsqueeze(-1), self.action_bits(actions_T)], -1)
        seen_CF = events_TF.sum(0).expand(counts_CF.shape)
        rates_C3A = rate_inputs(total_F, counts_CF, seen_CF)
        told_CK = self.head(unit_vectors(x_CD), embedded_CD, rates_C3A)[0]
        return torch.sigmoid(told_CK[:, : self.num_actions]), told_CK[:, self.num_actions :]


def export_programs(network: Network) -> dict[str, ExportedProgram]:
    """The programs `retrieval` and `ranking`, for any number of tokens up to the window, of items and of candidates."""
    dim, num_actions, num_counts = network.features.shape[1], network.num_actions, len(network.retrieval.gates)
    tokens, items, candidates = Dim("tokens", max=network.backbone.window), Dim("items"), Dim("candidates")
    # Each its own tensor: one that came twice would be taken for one input.
    history = {
        "item_TD": torch.zeros(_TRACED, dim),
        "has_item_T": torch.zeros(_TRACED, dtype=torch.bool),
        "actions_T": torch.zeros(_TRACED, dtype=torch.int64),
        "features_T2": torch.zeros(_TRACED, 2, dtype=torch.int64),
        "seconds_T": torch.zeros(_TRACED, dtype=torch.int64),
        "query_seconds_T": torch.zeros(_TRACED, dtype=torch.int64),
    }
    retrieval = {"unit_ID": torch.zeros(_TRACED, dim), "counted_IG": torch.zeros(_TRACED, num_counts)}
    ranking = {"candidate_CD": torch.zeros(_TRACED, dim), "counts_CF": torch.zeros(_TRACED, 1 + num_actions)}
    of_all = {"total_F": torch.zeros(1 + num_actions), "now_seconds": torch.tensor(0)}
    sizes = {name: {0: tokens} for name in history}
    with torch.no_grad():
        return {
            "retrieval": export(
                RetrievalProgram(network),
                (),
                history | retrieval,
                dynamic_shapes=sizes | {name: {0: items} for name in retrieval},
            ),
            "ranking": export(
                RankingProgram(network),
                (),
                history | ranking | of_all,
                dynamic_shapes=sizes | {name: {0: candidates} for name in ranking} | dict.fromkeys(of_all),
            ),
        }


_TRACED = 5
"""Size of what the programs are traced with; they hold for others."""


def _bias(layer: HSTULayer, distance: Tensor, buckets: Tensor) -> Tensor:
    """Of keys from so far, in tokens and in time."""
    assert isinstance(layer.bias, RelativeBias)  # as all layers of a `Network` have one
    return layer.bias.position[distance] + layer.bias.time[buckets]


def _products(q_Qhd: Tensor, k_Khd: Tensor) -> Tensor:
    """Of each query with each key, [h, Q, K]."""
    return q_Qhd.transpose(0, 1) @ k_Khd.permute(1, 2, 0)


def _weighted(weights_hQK: Tensor, v_Khe: Tensor) -> Tensor:
    """Sums of values, [Q, h, e]."""
    return (weights_hQK @ v_Khe.transpose(0, 1)).transpose(0, 1)
