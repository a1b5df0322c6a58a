import pytest
import torch
from torch.nn import functional as F

from model.losses import action_loss, exact_softmax, sampled_softmax, weighted_mean


def test_sampled_softmax_comes_to_the_exact_one_for_a_large_skewed_sample() -> None:
    """Without the correction popular negatives would be pushed down for being sampled often."""
    generator = torch.Generator().manual_seed(0)
    logits_QI = torch.randn(5, 50, generator=generator) * 2
    target_Q = torch.tensor([0, 7, 7, 20, 49])
    share_I = torch.softmax(torch.linspace(0, 3, 50), 0)
    sample_S = torch.multinomial(share_I, 200_000, replacement=True, generator=generator)
    sampled = sampled_softmax(
        logits_QI[torch.arange(5), target_Q],
        logits_QI[:, sample_S],
        (share_I[sample_S] * len(sample_S)).log(),
        sample_S == target_Q.unsqueeze(-1),
    )
    torch.testing.assert_close(sampled, exact_softmax(logits_QI, target_Q), rtol=0.01, atol=0.01)


def test_a_sampled_softmax_has_the_gradient_of_the_refined_correction() -> None:
    """The target would be taken as drawn, which it is not (arXiv 2507.09331)."""
    generator = torch.Generator().manual_seed(0)
    shares_I = torch.softmax(torch.linspace(0, 3, 12), 0)
    sample_S = torch.multinomial(shares_I, 40, replacement=True, generator=generator)
    target_Q = torch.tensor([0, 5, 11])
    logits_QI = (torch.randn(3, 12, generator=generator) * 2).requires_grad_()
    target_logit_Q, negative_QS = logits_QI[torch.arange(3), target_Q], logits_QI[:, sample_S]
    hit_QS = sample_S == target_Q.unsqueeze(-1)

    expected_n = len(sample_S) * (1 - shares_I[target_Q])
    conditional_QS = shares_I[sample_S] / (1 - shares_I[target_Q].unsqueeze(-1))
    others_QS = (negative_QS - (expected_n.unsqueeze(-1) * conditional_QS).log()).masked_fill(hit_QS, -torch.inf)
    others_Q = torch.logsumexp(others_QS, -1)
    weight_Q = 1 - torch.sigmoid(target_logit_Q - others_Q).detach()
    (refined,) = torch.autograd.grad((weight_Q * (others_Q - target_logit_Q)).sum(), logits_QI, retain_graph=True)

    ours_Q = sampled_softmax(target_logit_Q, negative_QS, (len(sample_S) * shares_I[sample_S]).log(), hit_QS)
    torch.testing.assert_close(torch.autograd.grad(ours_Q.sum(), logits_QI)[0], refined)


def test_a_sampled_target_is_no_negative_of_itself() -> None:
    """An accidental hit would push the target down."""
    hit = torch.tensor([[True, False]])
    loss = sampled_softmax(torch.zeros(1), torch.zeros(1, 2), torch.zeros(2), hit)
    torch.testing.assert_close(loss, torch.log(torch.tensor([2.0])))


def test_action_loss_reads_the_bits_of_the_mask() -> None:
    """A mask taken for an index would teach the wrong action."""
    logits_QA = torch.tensor([[1.0, -2.0, 0.5], [0.0, 0.0, 3.0]])
    labels_QA = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
    expected = F.binary_cross_entropy_with_logits(logits_QA, labels_QA, reduction="none").sum(-1)
    in_time = torch.zeros(2, dtype=torch.bool)
    torch.testing.assert_close(action_loss(logits_QA, torch.tensor([0b101, 0]), in_time), expected)


def test_the_loss_of_late_actions_is_that_of_what_came_less_that_of_none() -> None:
    """The negative that was learned would stay, or one be taken back where no action came."""
    logits_QA = torch.tensor([[1.0, -2.0, 0.5], [0.3, -7.0, 3.0]], requires_grad=True)
    masks_Q = torch.tensor([0b101, 0b010])

    def gradient(loss_Q: torch.Tensor) -> torch.Tensor:
        return torch.autograd.grad(loss_Q.sum(), logits_QA)[0]

    is_late = torch.tensor([True, False])
    late, in_time = action_loss(logits_QA, masks_Q, is_late), action_loss(logits_QA, masks_Q, is_late & False)
    none = action_loss(logits_QA, 0 * masks_Q, is_late & False)
    torch.testing.assert_close(late, torch.stack([in_time[0] - none[0], in_time[1]]))
    found, as_in_time, as_none = gradient(late), gradient(in_time), gradient(none)
    assert found[0].tolist() == [-1.0, 0.0, -1.0]
    torch.testing.assert_close(found, torch.stack([as_in_time[0] - as_none[0], as_in_time[1]]))


def test_targets_weigh_as_the_heaviest_of_their_actions() -> None:
    """An item that was disliked would be recommended for it."""
    losses = torch.tensor([1.0, 10.0, 100.0])
    masks = torch.tensor([0b001, 0b010, 0b101])
    assert weighted_mean(losses, masks, torch.tensor([1.0, 0.0, 2.0])).item() == pytest.approx((1 + 200) / 3)
    assert weighted_mean(losses, masks, torch.empty(0)).item() == pytest.approx(37)
    nothing = torch.tensor([2.0], requires_grad=True)
    loss = weighted_mean(nothing, torch.tensor([0b010]), torch.tensor([1.0, 0.0, 2.0]))
    loss.backward()  # type: ignore[no-untyped-call]  # torch declares no types for it
    assert loss.item() == 0
    assert nothing.grad is not None
    assert nothing.grad.item() == 0
