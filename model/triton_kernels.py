"""Triton kernels of pointwise attention over key intervals, with the relative bias computed inside.

SiLU needs neither a running maximum nor a saved normaliser, so that forward and backward are plain sums over key
blocks; the backward pass computes scores again. Kept apart from `triton_attention` because what Triton compiles is
Triton's language, not Python's.

Shapes: M queries and N keys of a tile, D and E features of keys and values, rounded up to powers of two.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

triton: Any = import_module("triton")
tl: Any = import_module("triton.language")
# Triton's compiler looks at annotations, and takes none but its own.
if TYPE_CHECKING:
    Value = Any
    constexpr = int
else:
    Value = tl.tensor
    constexpr = tl.constexpr


@triton.jit  # type: ignore[untyped-decorator]  # Triton is not there to be checked on every machine
def time_bucket(elapsed: Value, edges: Value) -> Value:
    """Bucket of time differences in seconds; `edges` corrects a logarithm that is rounded in another way."""
    seconds = tl.maximum(tl.abs(elapsed), 1)
    bucket = tl.minimum((tl.log(seconds.to(tl.float32)) / 0.301).to(tl.int32), 128)
    bucket = tl.where(seconds < tl.load(edges + bucket), bucket - 1, bucket)
    return tl.where(seconds >= tl.load(edges + bucket + 1), bucket + 1, bucket)


@triton.jit  # type: ignore[untyped-decorator]  # see above
def load_rows(
    values: Value, tokens: Value, head: Value, num_heads: Value, dim: Value, mask: Value, WIDTH: constexpr
) -> Value:
    """One head's features of some tokens of [T, h, dim], [rows, WIDTH], 0 beyond `dim` and where masked."""
    column = tl.arange(0, WIDTH)
    pointers = values + (tokens[:, None] * num_heads + head) * dim + column[None, :]
    return tl.load(pointers, mask=mask[:, None] & (column[None, :] < dim), other=0.0)


@triton.jit  # type: ignore[untyped-decorator]  # see above
def store_rows(
    values: Value, rows: Value, tokens: Value, head: Value, num_heads: Value, dim: Value, mask: Value, WIDTH: constexpr
) -> None:
    """Write what `load_rows` reads."""
    column = tl.arange(0, WIDTH)
    pointers = values + (tokens[:, None] * num_heads + head) * dim + column[None, :]
    tl.store(pointers, rows.to(values.dtype.element_ty), mask=mask[:, None] & (column[None, :] < dim))


@triton.jit  # type: ignore[untyped-decorator]  # see above
def slope_of(scores: Value) -> Value:
    """SiLU and its slope."""
    gate = tl.sigmoid(scores)
    weights = scores * gate
    return weights, gate + weights * (1 - gate)


@triton.jit  # type: ignore[untyped-decorator]  # see above
def pair_scores(
    q: Value, k: Value, queries: Value, seconds: Value, positions: Value, keys: Value, tables: Value, edges: Value,
    WITH_BIAS: constexpr,
) -> Value:  # fmt: skip
    """Scores [M, N] with each pair's distance and time bucket; `tables` holds positions' biases after the times'."""
    scores = tl.dot(q, tl.trans(k), input_precision="ieee")
    distance = tl.maximum(positions[:, None] - keys[None, :], 0)
    bucket = distance
    if WITH_BIAS:
        bucket = time_bucket(queries[:, None] - seconds[None, :], edges)
        scores += tl.load(tables + 129 + distance) + tl.load(tables + bucket)
    return scores, distance, bucket


@triton.jit  # type: ignore[untyped-decorator]  # see above
def own_scores(q: Value, k: Value, elapsed: Value, tables: Value, edges: Value, WITH_BIAS: constexpr) -> Value:
    """Score of each query with its own key, [M], and its time bucket."""
    scores = tl.sum(q.to(tl.float32) * k.to(tl.float32), 1)
    bucket = tl.zeros_like(elapsed).to(tl.int32)
    if WITH_BIAS:
        bucket = time_bucket(elapsed, edges)
        scores += tl.load(tables + 129) + tl.load(tables + bucket)
    return scores, bucket


@triton.jit  # type: ignore[untyped-decorator]  # see above
def forward_kernel(
    q: Value, k: Value, v: Value, out: Value, seconds: Value, queries: Value, positions: Value, firsts: Value,
    ends: Value, tiles: Value, tables: Value, edges: Value, num_heads: Value, key_dim: Value, value_dim: Value,
    M: constexpr, N: constexpr, D: constexpr, E: constexpr, WITH_BIAS: constexpr,
) -> None:  # fmt: skip
    """Sums of one tile of queries and one head, not yet divided."""
    head, tile = tl.program_id(1), tiles + tl.program_id(0) * 6
    start, low, high = tl.load(tile), tl.load(tile + 1), tl.load(tile + 2)
    first, end, num_history = tl.load(tile + 3), tl.load(tile + 4), tl.load(tile + 5)
    row = low + tl.arange(0, M)
    token, valid = start + row, row < high
    q_MD = load_rows(q, token, head, num_heads, key_dim, valid, D)
    query_M = tl.load(queries + token, mask=valid, other=0)
    position_M = tl.load(positions + token, mask=valid, other=0)
    first_M, end_M = tl.load(firsts + token, mask=valid, other=0), tl.load(ends + token, mask=valid, other=0)
    out_ME = tl.zeros([M, E], dtype=tl.float32)
    for block in range(first, end, N):
        key = block + tl.arange(0, N)
        k_ND = load_rows(k, start + key, head, num_heads, key_dim, key < end, D)
        v_NE = load_rows(v, start + key, head, num_heads, value_dim, key < end, E)
        second_N = tl.load(seconds + start + key, mask=key < end, other=0)
        scores, _, _ = pair_scores(q_MD, k_ND, query_M, second_N, position_M, key, tables, edges, WITH_BIAS)
        seen = (key[None, :] >= first_M[:, None]) & (key[None, :] < end_M[:, None])
        weights = tl.where(seen, scores * tl.sigmoid(scores), 0.0)
        out_ME += tl.dot(weights.to(v_NE.dtype), v_NE, input_precision="ieee")
    target = valid & (row >= num_history)
    k_MD = load_rows(k, token, head, num_heads, key_dim, target, D)
    v_ME = load_rows(v, token, head, num_heads, value_dim, target, E)
    elapsed_M = query_M - tl.load(seconds + token, mask=valid, other=0)
    own, _ = own_scores(q_MD, k_MD, elapsed_M, tables, edges, WITH_BIAS)
    out_ME += tl.where(target, own * tl.sigmoid(own), 0.0)[:, None] * v_ME.to(tl.float32)
    store_rows(out, out_ME, token, head, num_heads, value_dim, valid, E)


@triton.jit  # type: ignore[untyped-decorator]  # see above
def query_kernel(
    q: Value, k: Value, v: Value, dout: Value, dq: Value, dk: Value, dv: Value, seconds: Value, queries: Value,
    positions: Value, firsts: Value, ends: Value, tiles: Value, tables: Value, dtables: Value, edges: Value,
    num_heads: Value, key_dim: Value, value_dim: Value, num_tables: Value, table_size: Value,
    M: constexpr, N: constexpr, D: constexpr, E: constexpr, WITH_BIAS: constexpr,
) -> None:  # fmt: skip
    """Gradients of one tile of queries and one head, of what targets have of themselves, and of both tables."""
    head, tile = tl.program_id(1), tiles + tl.program_id(0) * 6
    start, low, high = tl.load(tile), tl.load(tile + 1), tl.load(tile + 2)
    first, end, num_history = tl.load(tile + 3), tl.load(tile + 4), tl.load(tile + 5)
    # Programs add to several copies of the tables, so that fewer of them wait for each other.
    dtables += ((tl.program_id(0) * num_heads + head) % num_tables) * table_size
    row = low + tl.arange(0, M)
    token, valid = start + row, row < high
    q_MD = load_rows(q, token, head, num_heads, key_dim, valid, D)
    dout_ME = load_rows(dout, token, head, num_heads, value_dim, valid, E)
    query_M = tl.load(queries + token, mask=valid, other=0)
    position_M = tl.load(positions + token, mask=valid, other=0)
    first_M, end_M = tl.load(firsts + token, mask=valid, other=0), tl.load(ends + token, mask=valid, other=0)
    dq_MD = tl.zeros([M, D], dtype=tl.float32)
    for block in range(first, end, N):
        key = block + tl.arange(0, N)
        k_ND = load_rows(k, start + key, head, num_heads, key_dim, key < end, D)
        v_NE = load_rows(v, start + key, head, num_heads, value_dim, key < end, E)
        second_N = tl.load(seconds + start + key, mask=key < end, other=0)
        scores, distance, bucket = pair_scores(q_MD, k_ND, query_M, second_N, position_M, key, tables, edges, WITH_BIAS)
        seen = (key[None, :] >= first_M[:, None]) & (key[None, :] < end_M[:, None])
        _, slope = slope_of(scores)
        dscores = tl.where(seen, slope * tl.dot(dout_ME, tl.trans(v_NE), input_precision="ieee"), 0.0)
        dq_MD += tl.dot(dscores.to(k_ND.dtype), k_ND, input_precision="ieee")
        if WITH_BIAS:
            tl.atomic_add(dtables + bucket, dscores, mask=seen)
            tl.atomic_add(dtables + 129 + distance, dscores, mask=seen)
    target = valid & (row >= num_history)
    k_MD = load_rows(k, token, head, num_heads, key_dim, target, D).to(tl.float32)
    v_ME = load_rows(v, token, head, num_heads, value_dim, target, E).to(tl.float32)
    elapsed_M = query_M - tl.load(seconds + token, mask=valid, other=0)
    own, own_bucket = own_scores(q_MD, k_MD, elapsed_M, tables, edges, WITH_BIAS)
    weight_M, slope_M = slope_of(own)
    down_M = tl.where(target, slope_M * tl.sum(dout_ME.to(tl.float32) * v_ME, 1), 0.0)
    if WITH_BIAS:
        tl.atomic_add(dtables + own_bucket, down_M, mask=target)
        tl.atomic_add(dtables + 129 + tl.zeros_like(own_bucket), down_M, mask=target)
    store_rows(dq, dq_MD + down_M[:, None] * k_MD, token, head, num_heads, key_dim, valid, D)
    store_rows(dk, down_M[:, None] * q_MD.to(tl.float32), token, head, num_heads, key_dim, target, D)
    store_rows(dv, weight_M[:, None] * dout_ME.to(tl.float32), token, head, num_heads, value_dim, target, E)


@triton.jit  # type: ignore[untyped-decorator]  # see above
def key_kernel(
    q: Value, k: Value, v: Value, dout: Value, dk: Value, dv: Value, seconds: Value, queries: Value,
    positions: Value, firsts: Value, ends: Value, tiles: Value, tables: Value, edges: Value, num_heads: Value,
    key_dim: Value, value_dim: Value,
    M: constexpr, N: constexpr, D: constexpr, E: constexpr, WITH_BIAS: constexpr,
) -> None:  # fmt: skip
    """Gradients of one tile of history keys and values and one head, from the queries that see any of them."""
    head, tile = tl.program_id(1), tiles + tl.program_id(0) * 5
    start, low, high = tl.load(tile), tl.load(tile + 1), tl.load(tile + 2)
    first, end = tl.load(tile + 3), tl.load(tile + 4)
    key = low + tl.arange(0, N)
    valid = key < high
    k_ND = load_rows(k, start + key, head, num_heads, key_dim, valid, D)
    v_NE = load_rows(v, start + key, head, num_heads, value_dim, valid, E)
    second_N = tl.load(seconds + start + key, mask=valid, other=0)
    dk_ND = tl.zeros([N, D], dtype=tl.float32)
    dv_NE = tl.zeros([N, E], dtype=tl.float32)
    for block in range(first, end, M):
        row = block + tl.arange(0, M)
        token, present = start + row, row < end
        q_MD = load_rows(q, token, head, num_heads, key_dim, present, D)
        dout_ME = load_rows(dout, token, head, num_heads, value_dim, present, E)
        query_M = tl.load(queries + token, mask=present, other=0)
        position_M = tl.load(positions + token, mask=present, other=0)
        first_M = tl.load(firsts + token, mask=present, other=0)
        end_M = tl.load(ends + token, mask=present, other=0)
        scores, _, _ = pair_scores(q_MD, k_ND, query_M, second_N, position_M, key, tables, edges, WITH_BIAS)
        seen = (key[None, :] >= first_M[:, None]) & (key[None, :] < end_M[:, None]) & valid[None, :]
        weights, slope = slope_of(scores)
        weights = tl.where(seen, weights, 0.0)
        dscores = tl.where(seen, slope * tl.dot(dout_ME, tl.trans(v_NE), input_precision="ieee"), 0.0)
        dv_NE += tl.dot(tl.trans(weights).to(dout_ME.dtype), dout_ME, input_precision="ieee")
        dk_ND += tl.dot(tl.trans(dscores).to(q_MD.dtype), q_MD, input_precision="ieee")
    store_rows(dk, dk_ND, start + key, head, num_heads, key_dim, valid, D)
    store_rows(dv, dv_NE, start + key, head, num_heads, value_dim, valid, E)
