"""HSTU's pointwise attention over key intervals, in plain torch.

Shapes: B windows, L history tokens, T target tokens, R = L + T rows, h heads, d features per head.
"""

from torch import Tensor
from torch.nn import functional as F


def interval_attention(
    q_BRhd: Tensor,
    k_BRhd: Tensor,
    v_BRhd: Tensor,
    bias_BRL: Tensor,
    self_bias: Tensor,
    allowed_BRL: Tensor,
    window: int,
) -> Tensor:
    """Sum of SiLU(q.k + bias) / window * v over each row's keys; returns [B, R, h, d].

    The first L rows are history and are the keys of all rows, as far as `allowed_BRL` (0 or 1 in the scores' dtype,
    one interval of keys per row) has them; the other rows are targets, which see themselves too. There is no softmax
    and no 1/sqrt(d); the divisor is the constant `window`, never a row's own length.
    """
    num_history = bias_BRL.shape[-1]
    k_BhLd = k_BRhd[:, :num_history].transpose(1, 2)
    v_BhLd = v_BRhd[:, :num_history].transpose(1, 2)
    scores_BhRL = q_BRhd.transpose(1, 2) @ k_BhLd.transpose(2, 3) + bias_BRL.unsqueeze(1)
    weights_BhRL = F.silu(scores_BhRL) * (allowed_BRL / window).unsqueeze(1)
    out_BRhd = (weights_BhRL @ v_BhLd).transpose(1, 2)
    if q_BRhd.shape[1] == num_history:
        return out_BRhd
    return _add_targets_themselves(out_BRhd, q_BRhd, k_BRhd, v_BRhd, self_bias, num_history, window)


def _add_targets_themselves(
    out_BRhd: Tensor,
    q_BRhd: Tensor,
    k_BRhd: Tensor,
    v_BRhd: Tensor,
    self_bias: Tensor,
    num_history: int,
    window: int,
) -> Tensor:
    q_BThd, k_BThd = q_BRhd[:, num_history:], k_BRhd[:, num_history:]
    weight_BTh1 = F.silu((q_BThd * k_BThd).sum(-1, keepdim=True) + self_bias) / window
    own_BThd = weight_BTh1 * v_BRhd[:, num_history:]
    return out_BRhd + F.pad(own_BThd, (0, 0, 0, 0, num_history, 0))
