"""Losses of the two heads.

Shapes: Q queries, I items, S sampled negatives, A action types.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def exact_softmax(logits_QI: Tensor, target_Q: Tensor) -> Tensor:
    """Cross entropy of each query's target among all items, [Q]."""
    return F.cross_entropy(logits_QI, target_Q, reduction="none")


def sampled_softmax(
    target_logit_Q: Tensor, negative_logits_QS: Tensor, log_expected_S: Tensor, hit_QS: Tensor
) -> Tensor:
    """Cross entropy of each target with the sum over all other items estimated from a sample, [Q].

    A negative enters as exp(logit) / (expected number of times that it is in the sample), which makes the estimate
    of the sum unbiased (logQ correction; Bengio & Senecal 2008). `hit_QS` marks negatives that are the query's own
    target: they are masked. The target itself is certain and not corrected.

    This is the refined correction of Khrylchenko et al. 2025 (arXiv 2507.09331). Their loss is
    sg(1 - P(target)) (log sum over d != target of exp(logit_d) / (n' q'(d)) - logit_target), q'(d) = q(d) / (1 -
    q(target)); of n draws n' = n (1 - q(target)) are expected to be other items, so that n' q'(d) is the expected
    number, and the gradient is that of this cross entropy.
    """
    corrected_QS = (negative_logits_QS - log_expected_S).masked_fill(hit_QS, -torch.inf)
    all_QS = torch.cat([target_logit_Q.unsqueeze(-1), corrected_QS], -1)
    return torch.logsumexp(all_QS, -1) - target_logit_Q


def action_loss(logits_QA: Tensor, actions_Q: Tensor, late_Q: Tensor) -> Tensor:
    """Binary cross entropy of each action type against the bits of the masks, summed over the types, [Q].

    Where actions came late, what was learned before, that of no action, is taken off it: what is left is -logit for
    each that came, and may be negative. For delayed feedback (Chapelle 2014) this is the positive-unlabeled loss among
    those that Ktena et al. 2019 (arXiv 1907.06558) give for fake negatives.
    """
    bits_A = torch.arange(logits_QA.shape[1], device=actions_Q.device)
    labels_QA = ((actions_Q.unsqueeze(-1) >> bits_A) & 1).to(logits_QA.dtype)
    loss_QA = F.binary_cross_entropy_with_logits(logits_QA, labels_QA, reduction="none")
    return torch.where(late_Q.unsqueeze(-1), -labels_QA * logits_QA, loss_QA).sum(-1)


def weighted_mean(loss_Q: Tensor, actions_Q: Tensor, weights_A: Tensor) -> Tensor:
    """Mean over queries, each as heavy as the heaviest of its actions; all alike where there are no weights.

    >>> losses, masks = torch.tensor([4.0, 8.0, 100.0]), torch.tensor([0b01, 0b11, 0b100])
    >>> weighted_mean(losses, masks, torch.tensor([1.0, 3.0, 0.0]))
    tensor(7.)
    """
    if not len(weights_A):
        return loss_Q.mean()
    bits_A = torch.arange(len(weights_A), device=actions_Q.device)
    weight_Q = (((actions_Q.unsqueeze(-1) >> bits_A) & 1) * weights_A.to(loss_Q)).amax(-1)
    return (loss_Q * weight_Q).sum() / weight_Q.sum().clamp_min(torch.finfo(loss_Q.dtype).tiny)
