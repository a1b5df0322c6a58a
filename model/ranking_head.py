"""What a user will do with an item: probabilities of actions, and the value that comes with one.

Shapes: Q targets, D width, A action types, K tasks (the actions, then the value if it is one), X experts.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class RankingHead(nn.Module):
    """One number for each task from a target token h and its item's embedding e.

    An expert is SiLU(W [h, e, h * e]); a task reads a mixture of them by a softmax gate of its own over the same
    features (MMoE; Ma et al. 2018, KDD), or the one there is (shared bottom).
    With `action_rates`, an action's log odds are those of its rate so far, plus a bias, plus with a learned weight each
    what the item's rate, the user's rate and the experts' logit are above that (`rate_inputs` of action_rates.py).
    The experts learn by their own logit alone: told by counts what they could learn, they would learn less.
    """

    def __init__(self, dim: int, *, num_actions: int, num_tasks: int, num_experts: int, action_rates: bool) -> None:
        super().__init__()
        self.num_experts = num_experts
        self.hidden = nn.Linear(3 * dim, num_experts * dim)
        self.gates = nn.Linear(3 * dim, num_tasks * num_experts) if num_experts > 1 else None
        self.output = nn.Linear(dim, num_tasks)
        self.rate_weights = nn.Parameter(torch.empty(4, num_actions)) if action_rates else None

    def reset(self, generator: torch.Generator) -> None:
        """Draw fresh weights."""
        for linear in (self.hidden, self.output):
            nn.init.xavier_uniform_(linear.weight, generator=generator)
            nn.init.zeros_(linear.bias)
        if self.gates is not None:
            nn.init.zeros_(self.gates.weight)  # all experts alike at first
            nn.init.zeros_(self.gates.bias)
        if self.rate_weights is not None:
            # At first the counts as they are, and nothing of the experts.
            with torch.no_grad():
                self.rate_weights.copy_(torch.tensor([[0.0], [1.0], [1.0], [0.0]]).expand_as(self.rate_weights))

    def forward(self, target_QD: Tensor, item_QD: Tensor, rates_Q3A: Tensor) -> tuple[Tensor, Tensor]:
        """What each task gives, [Q, K]: logits of actions, then the value on the scale of `ValueScale`; twice.

        First what is to be told, then what the experts give. `target_QD` are unit vectors, `item_QD` the items as the
        backbone was given them.
        """
        scaled_QD = target_QD * math.sqrt(target_QD.shape[-1])
        features = torch.cat([scaled_QD, item_QD, scaled_QD * item_QD], -1)
        experts_QXD = F.silu(self.hidden(features)).view(features.shape[0], self.num_experts, self.output.in_features)
        if self.gates is None:
            given_QK: Tensor = self.output(experts_QXD[:, 0]).float()
        else:
            tasks = features.shape[0], self.output.out_features, self.num_experts
            gates_QKX = self.gates(features).view(tasks).softmax(-1)
            given_QK = ((gates_QKX @ experts_QXD) * self.output.weight).sum(-1) + self.output.bias
            given_QK = given_QK.float()
        if self.rate_weights is None:
            return given_QK, given_QK
        base_QA, num_actions = rates_Q3A[:, 0], rates_Q3A.shape[-1]
        above_QA = given_QK[:, :num_actions].detach() - base_QA
        inputs_Q4A = torch.stack([torch.ones_like(base_QA), rates_Q3A[:, 1], rates_Q3A[:, 2], above_QA], 1)
        told_QA = base_QA + (inputs_Q4A * self.rate_weights).sum(1)
        return torch.cat([told_QA, given_QK[:, num_actions:]], -1), given_QK
