"""Everything dense: token embeddings, backbone and heads over item rows that are given from outside.

Shapes: T tokens of all windows, D width, F kinds of features, N ids, M words of each, S tokens with an
item without a row.
"""

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.contents import NO_WORD, Words
from model.encoder import EncoderSettings
from model.hstu import HSTU, Dropout
from model.item_keys import shared_rows
from model.layout import Integers
from model.ranking_head import RankingHead
from model.retrieval_head import RetrievalHead
from model.settings import ModelSettings
from model.token_order import TOKEN_ORDERS
from model.window_batch import WindowBatch

_INITIAL_TIME_BIAS = 3.0
"""A single pass over a stream does not grow out of the published mean of 0; measured in README.md."""


def encoder_settings(settings: ModelSettings) -> EncoderSettings:
    """Shape of the backbone."""
    head_dim = settings.dim // settings.num_heads
    return EncoderSettings(
        dim=settings.dim,
        num_layers=settings.num_layers,
        num_heads=settings.num_heads,
        key_dim=head_dim,
        value_dim=head_dim,
        window=settings.window,
        dropout=settings.dropout,
        initial_time_bias=_INITIAL_TIME_BIAS,
    )


class Network(nn.Module):
    """HSTU over a window's tokens (`TokenOrder`), a retrieval head and a ranking head.

    A token is sqrt(D) times the sum of its item's row, if it has one, and one learned vector for each bit of its action
    mask, if it has one; a bare exposure, an item whose actions are not told and BOS have learned vectors of their own.
    What was told of the user is a token, too (`user_features`).
    """

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        self.num_actions = len(settings.actions)
        self.num_tasks = self.num_actions + settings.predict_values
        self.token_order = TOKEN_ORDERS[settings.layout]
        self.scale = math.sqrt(settings.dim)
        self.features = nn.Parameter(torch.empty(self.num_actions + 3, settings.dim))
        self.user_features = nn.Parameter(torch.empty(settings.feature_rows, settings.dim))
        self.shared_items = nn.Parameter(torch.zeros(settings.shared_rows, settings.dim))
        self.words = nn.Parameter(torch.zeros(settings.content_rows, settings.dim))
        self.backbone = HSTU(encoder_settings(settings))
        self.retrieval = RetrievalHead(settings.temperature, len(settings.counts))
        self.ranking = RankingHead(
            settings.dim,
            num_actions=self.num_actions,
            num_tasks=self.num_tasks,
            num_experts=settings.ranking_experts,
            action_rates=settings.action_rates,
        )

    def reset(self, generator: torch.Generator, dropout_generator: torch.Generator) -> None:
        """Draw fresh weights; dropout draws from its own generator, on the device that the weights will be on."""
        nn.init.normal_(self.features, std=0.02, generator=generator)
        self.backbone.reset(generator)
        self.retrieval.reset()
        self.ranking.reset(generator)
        # From a generator of its own: all else is as it is without user features.
        own = torch.Generator().manual_seed(generator.initial_seed())
        nn.init.normal_(self.user_features, std=0.02, generator=own)
        self.set_dropout_generator(dropout_generator)

    def set_dropout_generator(self, generator: torch.Generator) -> None:
        """Let every dropout draw from this generator."""
        for module in self.modules():
            if isinstance(module, Dropout):
                module.generator = generator

    def embed(self, item_TD: Tensor, batch: WindowBatch, words_SM: Words) -> Tensor:
        """Items as the backbone is given them, [T, D]: scaled, 0 where a token has none.

        An item without a row of its own is what its shared rows and its words have learned.
        """
        has_row_T1 = batch.has_item_T1 * (batch.rows_T > 0).unsqueeze(-1)
        x_TD = item_TD * (has_row_T1 * self.scale)
        if len(batch.unknown_S):
            stand_in_SD = self.shared(batch.unknown_keys_S) + self.content(words_SM)
            x_TD = x_TD.index_add(0, batch.unknown_S, stand_in_SD * self.scale)
        return x_TD

    def shared(self, keys_N: Integers) -> Tensor:
        """What rows that ids without one of their own share have learned of them, [N, D]."""
        rows_N2 = shared_rows(keys_N, len(self.shared_items))
        return self.shared_items[torch.from_numpy(rows_N2).to(self.shared_items.device)].mean(1)

    def content(self, words_NM: Words) -> Tensor:
        """What is learned of items by their words, [N, D]: the mean; 0 where nothing is said of one."""
        if not len(self.words):
            return self.words.new_zeros(len(words_NM), self.words.shape[1])
        words = torch.from_numpy(words_NM).to(self.words.device)
        return F.embedding_bag(words, self.words, mode="mean", padding_idx=NO_WORD)

    def forward(self, item_TD: Tensor, batch: WindowBatch) -> Tensor:
        """Unit vectors [T, D] from embedded items [T, D] (see `embed`)."""
        encoded: Tensor = self.backbone(self.tokens(item_TD, batch), batch.layout)
        return encoded

    def tokens(self, item_TD: Tensor, batch: WindowBatch) -> Tensor:
        """What the backbone is given, [T, D]: embedded items, and what their tokens say beside."""
        x_TD = item_TD + self._flags(batch) @ (self.features * self.scale)
        if len(batch.told_F):
            x_TD = x_TD.index_add(0, batch.told_F, self.user_features[batch.features_F] * self.scale)
        return x_TD

    def seen(self, batch: WindowBatch) -> Tensor:
        """How many events each target sees, and how many of them have each action, [E, 1 + A]."""
        events_TF = torch.cat([(batch.actions_T >= 0).unsqueeze(-1), self._flags(batch)[:, : self.num_actions]], -1)
        # Sums of ones are exact, so that what other windows hold leaves no trace in a difference.
        until_TF = events_TF.double().cumsum(0)
        bos = torch.from_numpy(batch.layout.offsets[:-1]).to(until_TF.device)
        return (until_TF[batch.reads_E] - until_TF[bos[batch.windows_E]]).float()

    def _flags(self, batch: WindowBatch) -> Tensor:
        """Which learned vectors each token sums, [T, F] of 0.0 and 1.0: actions, exposure, target, BOS."""
        actions_T, device = batch.actions_T, batch.actions_T.device
        flags_TF = torch.zeros(len(actions_T), self.num_actions + 3, device=device)
        bits_A = torch.arange(self.num_actions, device=device)
        flags_TF[:, : self.num_actions] = ((actions_T.unsqueeze(-1) >> bits_A) & 1) * (actions_T >= 0).unsqueeze(-1)
        flags_TF[:, self.num_actions] = actions_T == 0
        flags_TF[:, self.num_actions + 1] = batch.has_item_T1[:, 0] * (actions_T < 0)
        flags_TF[torch.from_numpy(batch.layout.offsets[:-1]).to(device), self.num_actions + 2] = 1
        return flags_TF


def dense_arrays(network: Network) -> dict[str, np.ndarray]:
    """Copies of all dense weights as float32, by name."""
    return {f"dense.{name}": value.detach().cpu().numpy().copy() for name, value in network.named_parameters()}


def load_dense(network: Network, arrays: Mapping[str, np.ndarray]) -> None:
    """Fill the network from `dense_arrays`; raises `ValueError` where a name is missing or a shape differs."""
    for name, parameter in network.named_parameters():
        array = arrays.get(f"dense.{name}")
        if array is None or array.shape != tuple(parameter.shape):
            got = "nothing" if array is None else array.shape
            raise ValueError(f"dense.{name} must have shape {tuple(parameter.shape)}, got {got}: other model settings?")
        with torch.no_grad():
            parameter.copy_(torch.from_numpy(array))
