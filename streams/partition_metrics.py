"""What a worker's partitions look like at the moment of a scrape, for Prometheus."""

import time
from collections.abc import Callable, Iterator, Mapping

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from storage.sequence_store import SequenceStore

GAUGES = {
    "applied_offset": "Offset of the last applied record",
    "lag_records": "Records of the log that are not applied",
    "outbox_items": "Samples and dead letters that wait for Kafka",
    "users": "Users who have a sequence",
    "timers": "Timers that are set",
    "watermark_delay_seconds": "How far the newest event time is behind the clock",
    "checkpoint_age_seconds": "Time since the newest checkpoint",
}
"""Gauges of a partition and what they say."""


class PartitionMetrics(Collector):
    """Reads the stores when it is scraped; nothing is counted while records are applied."""

    def __init__(
        self,
        stores: Callable[[], Mapping[int, SequenceStore]],
        lag: Callable[[int], int | None],
        checkpoint_age_seconds: Callable[[int], float | None],
    ) -> None:
        self._stores = stores
        self._lag = lag
        self._checkpoint_age_seconds = checkpoint_age_seconds

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """One family a gauge, one sample a partition that is held; what is not known yet has no sample."""
        stores = self._stores()
        found = {number: self._figures(store) for number, store in stores.items()}
        for name, documentation in GAUGES.items():
            family = GaugeMetricFamily(f"headwater_partition_{name}", documentation, labels=["partition"])
            for number, figures in found.items():
                value = figures[name]
                if value is not None:
                    family.add_metric([str(number)], value)
            yield family
        sizes = GaugeMetricFamily(
            "headwater_rocksdb_bytes", "Bytes by RocksDB's property", labels=["partition", "property"]
        )
        for number, store in stores.items():
            for name, size in store.sizes().items():
                sizes.add_metric([str(number), name], size)
        yield sizes

    def _figures(self, store: SequenceStore) -> dict[str, float | None]:
        return {
            "applied_offset": store.applied,
            "lag_records": self._lag(store.partition),
            "outbox_items": store.outbox_size,
            "users": store.num_users,
            "timers": store.num_timers,
            "watermark_delay_seconds": time.time() - store.watermark_ms / 1000 if store.watermark_ms else None,
            "checkpoint_age_seconds": self._checkpoint_age_seconds(store.partition),
        }
