"""The loss of retrieval: a softmax of each target over all items, or over a sample of them.

Shapes: Q new targets, P replayed ones, I rows of the item table, S sampled ones, C those a target is learned against, D
width, A action types.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from model.forward import encode_replay
from model.frequency import Frequency
from model.living_items import LivingItems
from model.losses import exact_softmax, sampled_softmax, weighted_mean
from model.network import Network
from model.objective import Pass
from model.rivals import Rivals
from model.settings import LearnSettings, ModelSettings
from model.windows import EncodedSequence


class RetrievalLoss:
    """Mean over new targets plus mean over replayed ones, each target as heavy as its actions.

    A replayed target is never heavier than a new one: few of them, as at the begin of a stream, do not lead the step.
    """

    def __init__(self, settings: ModelSettings, network: Network, items: LivingItems, learn: LearnSettings) -> None:
        target_weights = learn.target_weights
        if len(target_weights) not in (0, len(settings.actions)):
            raise ValueError(f"target_weights must be none or one for each of {settings.actions}, got {target_weights}")
        self._network, self._items, self._vocabulary, self._logq = network, items, items.vocabulary, learn.logq
        self._weights_A = torch.tensor(target_weights)

    def __call__(self, pass_: Pass, past: Sequence[EncodedSequence], frequency: Frequency, rivals: Rivals) -> Tensor:
        """Of the model, and of the gates that weigh counts beside it: each learns by a loss of its own.

        The temperature and the gates are learned from new targets alone: what is replayed fits better, and is counted
        already.
        """
        loss = pass_.query_QD.sum() * 0
        if (pass_.events.rows[pass_.events.is_target] > 0).any():
            loss = loss + self._new(pass_, frequency, rivals)
        if past:
            past_PD, past_P, actions_P = encode_replay(self._network, pass_.leaf, past)
            barred_I = torch.from_numpy(~self._vocabulary.live_I)
            barred_I[self._items.hidden()] = True
            barred_I = barred_I.to(past_PD.device)
            shown_P = ~barred_I[past_P]
            past_PD, past_P, actions_P = past_PD[shown_P], past_P[shown_P], actions_P[shown_P]
            if not len(past_P):
                return loss
            temperature = self._network.retrieval.temperature().detach()
            logits_PC, columns_C = self._logits(pass_, past_PD, past_P, temperature)
            loss_P = self._softmax(pass_, logits_PC, past_P, columns_C, frequency, barred_I[None])
            share = min(1.0, len(past_P) / max(1, int(pass_.events.is_target.sum())))
            loss = loss + share * weighted_mean(loss_P, actions_P, self._weights_A)
        return loss

    def _new(self, pass_: Pass, frequency: Frequency, rivals: Rivals) -> Tensor:
        """Of the new targets.

        What is no candidate of a target, as the user has acted on it or the stream brought it later, is no competitor
        in its softmax either: serving filters it, so nothing is to be learned from it. Nor is anything from a target
        without a row.
        """
        retrieval, device = self._network.retrieval, pass_.query_QD.device
        targets = pass_.events.select(pass_.events.is_target)
        target_Q, actions_Q = (torch.from_numpy(column).to(device) for column in (targets.rows, targets.actions))
        barred_QI = torch.from_numpy(~rivals.candidates_QI).to(device)
        barred_QI[torch.arange(len(target_Q)), target_Q] = False
        query_QD = pass_.query_QD[: len(target_Q)]
        logits_QC, columns_C = self._logits(pass_, query_QD, target_Q, retrieval.temperature())
        loss_Q = self._softmax(pass_, logits_QC, target_Q, columns_C, frequency, barred_QI)
        if len(retrieval.gates):
            counted_QCG = torch.from_numpy(rivals.counted_QCG[:, : logits_QC.shape[1]]).to(device)
            gated_QC = logits_QC.detach() + counted_QCG @ retrieval.gates
            loss_Q = loss_Q + self._softmax(pass_, gated_QC, target_Q, columns_C, frequency, barred_QI)
        has_row_Q = target_Q > 0
        return weighted_mean(loss_Q[has_row_Q], actions_Q[has_row_Q], self._weights_A)

    def _logits(
        self, pass_: Pass, query_QD: Tensor, target_Q: Tensor, temperature: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """Of all items, or of the sample (every target, then the drawn ones) and which those are."""
        if pass_.exact:
            value_ID = pass_.leaf.value_UD[: self._vocabulary.num_rows]
            return self._network.retrieval.cosines(query_QD, value_ID) / temperature, None
        sample_S = torch.cat([target_Q, pass_.drawn_S])
        item_SD = pass_.leaf.value_UD[pass_.leaf.place(sample_S)]
        return self._network.retrieval.cosines(query_QD, item_SD) / temperature, sample_S

    def _softmax(
        self,
        pass_: Pass,
        logits_QC: Tensor,
        target_Q: Tensor,
        sample_S: Tensor | None,
        frequency: Frequency,
        barred_QI: Tensor,
    ) -> Tensor:
        """Loss of each target; in a sample, targets are as frequent as they were lately, and the rest is uniform.

        A young row is no uniform negative: that nobody took it yet says that it is new.
        """
        num_targets = len(target_Q)
        if sample_S is None:
            return exact_softmax(logits_QC.masked_fill(barred_QI[:, : self._vocabulary.num_rows], -torch.inf), target_Q)
        rows_S = sample_S.cpu().numpy()
        young_S = frequency.young(rows_S)
        expected_S = num_targets * frequency.shares(rows_S) + len(pass_.drawn_S) / len(self._vocabulary) * ~young_S
        log_expected_S = torch.from_numpy(expected_S).log().to(logits_QC)
        hit_QS = (sample_S == target_Q.unsqueeze(-1)) | barred_QI[:, sample_S]
        hit_QS[:, num_targets:] |= torch.from_numpy(young_S[num_targets:]).to(hit_QS.device)
        target_logit_Q = logits_QC.diagonal()
        if self._logq == "plain":
            target_logit_Q = target_logit_Q - log_expected_S[:num_targets]
        return sampled_softmax(target_logit_Q, logits_QC, log_expected_S, hit_QS)
