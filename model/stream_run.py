"""A single pass over a made stream: learn its first nine tenths once, in order, then rank in the last, frozen.

Learning  Each item of a record after the first is predicted from those before it; negatives are uniform among the ids
          that are there. Every batch is new when it comes, so that its loss is a validation loss.
Ranking   At every place but the first, among all ids that are there, by cosine. Ties count half. Ids that came only
          after learning ended are ranked as their initial rows have it.

Shapes: R records, L items of each, P predictions, V ids and a padding row 0.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch

from model.cutoffs import cutoff_figures
from model.encoder_names import EncoderName
from model.history_batch import HistoryBatch
from model.hstu import tiled_product
from model.layout import Integers, sequence_layout
from model.metrics import Floats
from model.next_item_settings import NextItemSettings
from model.prequential import candidate_ranks
from model.urn_stream import UrnSettings, UrnStream

_RANKED_RECORDS = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class StreamSettings(NextItemSettings):
    """Model and training of one pass."""

    encoder: EncoderName = "hstu-no-rab"
    """The stream has no times, so that a relative bias has nothing to say but positions."""
    dim: int = 64
    num_heads: int = 2
    temperature: float = 0.1
    batch_records: int = 32
    stream: UrnSettings = field(default_factory=UrnSettings)
    """The seed is its seed, too."""

    def __post_init__(self) -> None:
        NextItemSettings.__post_init__(self)
        self.check_counts("batch_records")


class StreamRun:
    """One model on one stream, part by part; a part depends on the state before it and on its number alone."""

    def __init__(self, settings: StreamSettings, device: torch.device) -> None:
        self.settings = settings
        self.device = device
        self.stream = UrnStream(settings.stream, settings.seed)
        stream = settings.stream
        self.trainer = settings.fresh(num_items=stream.num_ids, window=stream.record_length, dropout=0.0, device=device)
        self.model = self.trainer.model

    def learn_part(self, number: int) -> Iterator[float]:
        """Learn one part; the loss of each step as it is done. Raises `FloatingPointError`."""
        records = self.stream.part(number)
        self.trainer.begin(int(np.random.default_rng([self.settings.seed, number, 1]).integers(2**62)))
        for start in range(0, len(records.items_RL), self.settings.batch_records):
            batch = self._batch(records.items_RL[start : start + self.settings.batch_records])
            yield self.trainer.step(batch, int(records.num_there_R[start]))

    def num_steps(self) -> int:
        """Steps of a part."""
        stream = self.settings.stream
        return -(-stream.num_records // stream.num_parts // self.settings.batch_records)

    def figures(self) -> dict[str, float]:
        """Hit rates in the test, those of the oracle on the same records, and percents of it."""
        parts = [self.stream.part(n) for n in range(self.stream.num_learned_parts, self.settings.stream.num_parts)]
        self.model.eval()
        with torch.inference_mode():
            ranks = np.concatenate([self._ranks(part.items_RL, part.num_there_R) for part in parts])
        figures = cutoff_figures(ranks)
        oracle = {cutoff: float(np.mean([part.oracle_hit_rate(cutoff) for part in parts])) for cutoff in (10, 50)}
        rates = {f"hr@{cutoff}": figures[f"hr@{cutoff}"] for cutoff in oracle}
        rates |= {f"oracle_hr@{cutoff}": value for cutoff, value in oracle.items()}
        return rates | {f"percent@{cutoff}": 100 * rates[f"hr@{cutoff}"] / value for cutoff, value in oracle.items()}

    def _ranks(self, items_RL: Integers, num_there_R: Integers) -> Floats:
        items_VD, ranks = self.model.unit_items(), []
        for start in range(0, len(items_RL), _RANKED_RECORDS):
            rows = slice(start, start + _RANKED_RECORDS)
            batch = self._batch(items_RL[rows])
            scores_PV = tiled_product(self.model(batch), items_VD.T).cpu().numpy()
            there_P1 = np.repeat(num_there_R[rows], items_RL.shape[1] - 1)[:, None]
            number_V = np.arange(scores_PV.shape[1])
            candidates_PV = (number_V > 0) & (number_V <= there_P1)
            ranks.append(candidate_ranks(scores_PV, batch.targets_P.cpu().numpy(), candidates_PV))
        return np.concatenate(ranks)

    def _batch(self, items_RL: Integers) -> HistoryBatch:
        num_records, length = len(items_RL), items_RL.shape[1] - 1
        times_T = np.zeros(num_records * length, np.int64)
        return HistoryBatch(
            torch.from_numpy(items_RL[:, :-1].flatten()).to(self.device),
            sequence_layout(np.arange(num_records + 1) * length, times_T, times_T),
            torch.arange(num_records * length, device=self.device),
            torch.from_numpy(items_RL[:, 1:].flatten()).to(self.device),
            np.repeat(np.arange(num_records), length),
        )
