"""Keys and values of one user's history, kept from request to request, and candidates scored against them (M-FALCON).

A token's row is settled once the next event's time is known: nothing that comes later changes it. The last token's row
saw the time of the request instead, so it is computed anew each time (Zhai et al. 2024, section 3.4 and appendix H).

Shapes: n tokens that are kept, m new rows (tokens or candidates), K = n + m keys, C columns, D width, h heads,
d features of queries and keys, e features of values.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from model.bias import RelativeBias, time_buckets
from model.blocks import HIDDEN
from model.hstu import HSTU, HSTULayer, unit_vectors

DROPPED_SHARE = 0.25
"""Of a full history, the share that is forgotten at once: what is kept has to be encoded again then."""
_ROWS_AT_ONCE = 256
"""Tokens whose scores exist at one time while a history is taken in."""


@dataclass(slots=True)
class LayerCache:
    """Room for `window` keys and values of one layer."""

    k_hnd: Tensor
    v_hne: Tensor

    def put(self, start: int, k_mhd: Tensor, v_mhe: Tensor) -> None:
        """Write rows from `start` on."""
        rows = slice(start, start + len(k_mhd))
        self.k_hnd[:, rows], self.v_hne[:, rows] = k_mhd.transpose(0, 1), v_mhe.transpose(0, 1)


class HistoryCache:
    """One user's plain causal history under the weights of one version; not for several threads at once.

    Holds room for the whole window: window * num_layers * num_heads * (key_dim + value_dim) numbers, and the tokens.
    """

    def __init__(self, encoder: HSTU, version: int) -> None:
        self.version = version
        """Whatever names the weights; a cache of another version is of no use."""
        self._encoder = encoder
        self._layers = [layer for layer in encoder.layers if isinstance(layer, HSTULayer)]
        self._tokens_nD = self._layers[0].uvqk.detach().new_zeros(0, len(self._layers[0].uvqk))
        self._seconds_n = torch.zeros(0, dtype=torch.int64)
        self._num_settled = 0
        self._caches = self._empty_layers()

    @property
    def num_tokens(self) -> int:
        """Tokens of the history that is remembered."""
        return len(self._tokens_nD)

    @torch.inference_mode()
    def append(self, x_mD: Tensor, seconds_m: Tensor) -> None:
        """Add newer tokens [m, D] and their times in int64 seconds; only rows that are settled now are computed.

        Where more than the window would be held, the oldest are forgotten, a quarter of the window at least, and what
        is left is encoded again. Raises `ValueError` where columns differ in length.
        """
        if len(x_mD) != len(seconds_m):
            raise ValueError(f"each token needs a time, got {len(x_mD)} tokens and {len(seconds_m)} times")
        tokens_nD, seconds_n = torch.cat([self._tokens_nD, x_mD]), torch.cat([self._seconds_n, seconds_m])
        if len(tokens_nD) > self._encoder.window:
            kept = self._encoder.window - int(self._encoder.window * DROPPED_SHARE)
            self._clear(tokens_nD[-kept:], seconds_n[-kept:])
        else:
            self._tokens_nD, self._seconds_n = tokens_nD, seconds_n
        while (left := self.num_tokens - 1 - self._num_settled) > 0:
            rows = slice(self._num_settled, self._num_settled + min(left, _ROWS_AT_ONCE))
            self._extend(self._tokens_nD[rows], self._seconds_n[rows.start + 1 : rows.stop + 1])
            self._num_settled = rows.stop

    @torch.inference_mode()
    def read(self, now_seconds: int) -> Tensor:
        """Unit vector [D] of the last token, asked at `now_seconds`: what the next item is retrieved with.

        Raises `ValueError` for an empty history.
        """
        if self.num_tokens == 0:
            raise ValueError("a history must have a token, such as BOS, before it is read")
        return unit_vectors(self._extend(self._tokens_nD[-1:], torch.tensor([now_seconds])))[0]

    def score(self, candidates_mD: Tensor, now_seconds: int, microbatch: int = 128) -> Tensor:
        """Unit vectors [m, D] of candidates: each sees the whole history, asked at `now_seconds`, and itself.

        Equal to what the encoder gives for the history and one candidate as its target, in whatever order they come.
        """
        return torch.cat([*self.scores(torch.split(candidates_mD, microbatch), now_seconds)])

    @torch.inference_mode()
    def scores(self, microbatches: Iterable[Tensor], now_seconds: int) -> Iterator[Tensor]:
        """The same one microbatch at a time: memory is that of one. Raises `ValueError` for an empty history."""
        self.read(now_seconds)
        elapsed_1n = (now_seconds - self._seconds_n).unsqueeze(0)
        distance_1n = self.num_tokens - torch.arange(self.num_tokens).unsqueeze(0)
        buckets_1n = time_buckets(elapsed_1n)
        for x_mD in microbatches:
            for layer, cache in zip(self._layers, self._caches, strict=True):
                u_mV, q_mhd, k_mhd, v_mhe = layer.project(x_mD)
                bias_1n = _bias(layer.bias, distance_1n, buckets_1n)
                own = (k_mhd.transpose(0, 1), v_mhe.transpose(0, 1))
                attended_mhe = _attend(layer, q_mhd, cache, self.num_tokens, bias_1n, own)
                x_mD = layer.finish(x_mD, u_mV, attended_mhe)
            yield unit_vectors(x_mD)

    def _clear(self, tokens_nD: Tensor, seconds_n: Tensor) -> None:
        """Begin anew with these tokens, none of them settled."""
        self._tokens_nD, self._seconds_n, self._num_settled = tokens_nD, seconds_n, 0

    def _empty_layers(self) -> list[LayerCache]:
        window, like = self._encoder.window, self._tokens_nD
        return [
            LayerCache(
                like.new_zeros(layer.num_heads, window, layer.sizes[2] // layer.num_heads),
                like.new_zeros(layer.num_heads, window, layer.sizes[1] // layer.num_heads),
            )
            for layer in self._layers
        ]

    def _extend(self, x_mD: Tensor, query_seconds_m: Tensor) -> Tensor:
        """Rows of the tokens after the settled ones, [m, D]; their keys and values are written behind those."""
        settled, total = self._num_settled, self._num_settled + len(x_mD)
        row_m1, key_K = torch.arange(settled, total).unsqueeze(1), torch.arange(total)
        distance_mK = (row_m1 - key_K).clamp_(min=0)
        buckets_mK = time_buckets(query_seconds_m.unsqueeze(1) - self._seconds_n[:total])
        for layer, cache in zip(self._layers, self._caches, strict=True):
            u_mV, q_mhd, k_mhd, v_mhe = layer.project(x_mD)
            cache.put(settled, k_mhd, v_mhe)
            bias_mK = _bias(layer.bias, distance_mK, buckets_mK).masked_fill(key_K > row_m1, HIDDEN)
            x_mD = layer.finish(x_mD, u_mV, _attend(layer, q_mhd, cache, total, bias_mK, None))
        return x_mD


class HistoryCaches:
    """Caches of the users asked about last; not for several threads at once."""

    def __init__(self, encoder: HSTU, version: int, num_users: int) -> None:
        if num_users < 1:
            raise ValueError(f"num_users must be >= 1, got {num_users}")
        self._encoder, self._version, self._num_users = encoder, version, num_users
        self._caches: dict[str, HistoryCache] = {}

    def of(self, user_id: str) -> HistoryCache:
        """The user's cache; an empty one where there is none of these weights. The user asked for longest ago goes."""
        cache = self._caches.pop(user_id, None)
        if cache is None or cache.version != self._version:
            cache = HistoryCache(self._encoder, self._version)
        self._caches[user_id] = cache
        if len(self._caches) > self._num_users:
            del self._caches[next(iter(self._caches))]
        return cache

    def replace_weights(self, encoder: HSTU, version: int) -> None:
        """Go on with other weights: what was computed with the former ones is forgotten, each user's when asked for."""
        self._encoder, self._version = encoder, version


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
