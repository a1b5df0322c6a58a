"""Keys and values of one user's history, kept from request to request, and candidates scored against them (M-FALCON).

A token's keys and values hang on itself, on what is before it, and on the time that it is asked at: that of the next
event, or of the request for the last one, which is computed anew each time (Zhai et al. 2024, section 3.4, appendix H).

Shapes: n tokens that are kept, m new rows (tokens or candidates), K keys, C columns (keys), D width, h heads,
d features of queries and keys, e features of values.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from model.attention import AttentionPlan, interval_attention
from model.bias import RelativeBias, time_buckets
from model.blocks import HIDDEN
from model.hstu import HSTU, HSTULayer, unit_vectors
from model.layout import Layout
from model.windows import padded

_ROWS_AT_ONCE = 256
"""Tokens whose scores exist at one time while a history is taken in."""


@dataclass(slots=True)
class LayerCache:
    """Keys and values of one layer, with room for some more tokens."""

    k_hnd: Tensor
    v_hne: Tensor

    def put(self, start: int, k_mhd: Tensor, v_mhe: Tensor) -> None:
        """Write rows from `start` on."""
        rows = slice(start, start + len(k_mhd))
        self.k_hnd[:, rows], self.v_hne[:, rows] = k_mhd.transpose(0, 1), v_mhe.transpose(0, 1)

    def make_room(self, num_tokens: int) -> None:
        """Hold so many tokens, in whole tiles; those that are there stay."""
        more = padded(num_tokens) - self.k_hnd.shape[1]
        if more > 0:
            self.k_hnd, self.v_hne = (F.pad(x, (0, 0, 0, more)) for x in (self.k_hnd, self.v_hne))


class HistoryCache:
    """One user's plain causal history under the weights of one encoder, which is given anew each time.

    Holds num_layers * num_heads * (key_dim + value_dim) numbers and a time for each token, in whole tiles of tokens.
    Not for several threads at once.
    """

    def __init__(self, encoder: HSTU) -> None:
        self._caches = [
            LayerCache(
                layer.uvqk.new_zeros(layer.num_heads, 0, layer.sizes[2] // layer.num_heads),
                layer.uvqk.new_zeros(layer.num_heads, 0, layer.sizes[1] // layer.num_heads),
            )
            for layer in _layers(encoder)
        ]
        self._seconds_n = torch.zeros(0, dtype=torch.int64)

    @property
    def num_tokens(self) -> int:
        """Tokens of the history."""
        return len(self._seconds_n)

    @property
    def num_bytes(self) -> int:
        """What the keys, values and times take."""
        return sum(x.nbytes for cache in self._caches for x in (cache.k_hnd, cache.v_hne)) + self._seconds_n.nbytes

    def hold(self, keys_values: Sequence[tuple[Tensor, Tensor]], seconds_n: Tensor) -> None:
        """Hold what `encode` gave for a history [n, h, d] and [n, h, e] in each layer, and nothing else."""
        self._seconds_n = seconds_n.clone()
        for cache, (k_nhd, v_nhe) in zip(self._caches, keys_values, strict=True):
            cache.make_room(len(seconds_n))
            cache.put(0, k_nhd, v_nhe)

    @torch.inference_mode()
    def extend(self, encoder: HSTU, start: int, x_mD: Tensor, seconds_m: Tensor, query_seconds_m: Tensor) -> Tensor:
        """Put new tokens [m, D] behind the first `start` ones; returns the unit vector [D] of the last.

        Each comes with its time and the time that it is asked at, int64 seconds. What followed the first `start`
        is forgotten. Raises `ValueError` for none, for columns that differ in length, and beyond the window.
        """
        total = start + len(x_mD)
        if not len(x_mD) == len(seconds_m) == len(query_seconds_m) or not 0 <= start <= self.num_tokens:
            raise ValueError(
                f"each token needs two times and stands behind {self.num_tokens} others at most, got {len(x_mD)} "
                f"tokens behind {start}, {len(seconds_m)} and {len(query_seconds_m)} times"
            )
        if len(x_mD) == 0 or total > encoder.window:
            raise ValueError(f"a history must have 1 to {encoder.window} tokens, one of them new, got {total}")
        self._seconds_n = torch.cat([self._seconds_n[:start], seconds_m])
        for cache in self._caches:
            cache.make_room(total)
        for low in range(0, len(x_mD), _ROWS_AT_ONCE):
            rows = slice(low, low + _ROWS_AT_ONCE)
            out_mD = self._extend(encoder, start + low, x_mD[rows], query_seconds_m[rows])
        return unit_vectors(out_mD[-1:])[0]

    def score(self, encoder: HSTU, candidates_mD: Tensor, now_seconds: int, microbatch: int = 256) -> Tensor:
        """Unit vectors [m, D] of candidates: each sees the whole history, asked at `now_seconds`, and itself.

        Equal to what the encoder gives for the history and one candidate as its target, in whatever order they come.
        """
        return torch.cat([*self.scores(encoder, torch.split(candidates_mD, microbatch), now_seconds)])

    @torch.inference_mode()
    def scores(self, encoder: HSTU, microbatches: Iterable[Tensor], now_seconds: int) -> Iterator[Tensor]:
        """The same one microbatch at a time: memory is that of one. Raises `ValueError` for an empty history."""
        if self.num_tokens == 0:
            raise ValueError("a history must have a token, such as BOS, before candidates are scored")
        distance_1n = self.num_tokens - torch.arange(self.num_tokens).unsqueeze(0)
        buckets_1n = time_buckets((now_seconds - self._seconds_n).unsqueeze(0))
        layers = _layers(encoder)
        biases = [_bias(layer.bias, distance_1n, buckets_1n) for layer in layers]
        for x_mD in microbatches:
            for layer, cache, bias_1n in zip(layers, self._caches, biases, strict=True):
                u_mV, q_mhd, k_mhd, v_mhe = layer.project(x_mD)
                own = (k_mhd.transpose(0, 1), v_mhe.transpose(0, 1))
                attended_mhe = _attend(layer, q_mhd, cache, self.num_tokens, bias_1n, own)
                x_mD = layer.finish(x_mD, u_mV, attended_mhe)
            yield unit_vectors(x_mD)

    def _extend(self, encoder: HSTU, start: int, x_mD: Tensor, query_seconds_m: Tensor) -> Tensor:
        """Rows of the tokens behind the first `start`, [m, D]; their keys and values are written behind those."""
        total = start + len(x_mD)
        row_m1, key_K = torch.arange(start, total).unsqueeze(1), torch.arange(total)
        distance_mK = (row_m1 - key_K).clamp_(min=0)
        buckets_mK = time_buckets(query_seconds_m.unsqueeze(1) - self._seconds_n[:total])
        for layer, cache in zip(_layers(encoder), self._caches, strict=True):
            u_mV, q_mhd, k_mhd, v_mhe = layer.project(x_mD)
            cache.put(start, k_mhd, v_mhe)
            bias_mK = _bias(layer.bias, distance_mK, buckets_mK).masked_fill(key_K > row_m1, HIDDEN)
            x_mD = layer.finish(x_mD, u_mV, _attend(layer, q_mhd, cache, total, bias_mK, None))
        return x_mD


@torch.inference_mode()
def encode(encoder: HSTU, x_TD: Tensor, layout: Layout) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
    """Unit vectors [T, D] as the encoder gives them, and the keys [T, h, d] and values [T, h, e] of each layer."""
    plan, keys_values = AttentionPlan(layout, x_TD.device, relative_bias=encoder.relative_bias), []
    for layer in _layers(encoder):
        u_TV, q_Thd, k_Thd, v_The = layer.project(x_TD)
        keys_values.append((k_Thd, v_The))
        x_TD = layer.finish(x_TD, u_TV, interval_attention(q_Thd, k_Thd, v_The, plan, layer.bias, layer.rule))
    return unit_vectors(x_TD), keys_values


def _layers(encoder: HSTU) -> list[HSTULayer]:
    return [layer for layer in encoder.layers if isinstance(layer, HSTULayer)]


def _bias(bias: RelativeBias | None, distance_mK: Tensor, buckets_mK: Tensor) -> Tensor:
    if bias is None:
        return torch.zeros(distance_mK.shape)
    tables = bias.position[distance_mK] + bias.time[buckets_mK.long()]
    return tables.detach()


def _attend(
    layer: HSTULayer,
    q_mhd: Tensor,
    cache: LayerCache,
    num_keys: int,
    bias_mK: Tensor,
    own: tuple[Tensor, Tensor] | None,
) -> Tensor:
    """Attention of rows to the first `num_keys` keys of the cache and, for candidates, to their own: [m, h, e]."""
    q_hmd = q_mhd.transpose(0, 1)
    scores_hmC = q_hmd.new_empty(*q_hmd.shape[:2], num_keys + (own is not None))
    scores_hmC[..., :num_keys] = bias_mK
    scores_hmC[..., :num_keys].baddbmm_(q_hmd, cache.k_hnd[:, :num_keys].transpose(1, 2))
    if own is not None:
        own_bias = 0 if layer.bias is None else layer.bias.position[0] + layer.bias.time[0]
        scores_hmC[..., num_keys] = (q_hmd * own[0]).sum(-1) + own_bias
    weights_hmC = layer.rule.weights(scores_hmC)
    out_hme = weights_hmC[..., :num_keys] @ cache.v_hne[:, :num_keys]
    if own is not None:
        out_hme += weights_hmC[..., num_keys:] * own[1]
    return out_hme.transpose(0, 1).div_(layer.rule.divisor)
