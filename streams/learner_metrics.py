"""What the learner tells Prometheus, and through it the live table and the replay that paces itself."""

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server

from storage.errors import SetupError


class LearnerMetrics:
    """Counters since the process started, and gauges of the learner's own running figures."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        self.samples = Counter("headwater_samples_learned", "Samples learned", registry=registry)
        self.duplicates = Counter(
            "headwater_samples_duplicate", "Samples dropped as already learned", registry=registry
        )
        self.malformed = Counter(
            "headwater_samples_malformed", "Records that are no sample, or no item", registry=registry
        )
        self.missing = Counter(
            "headwater_samples_missing", "Samples that expired before they were learned", registry=registry
        )
        self.forgotten = Counter("headwater_learner_users_forgotten", "Users who were forgotten", registry=registry)
        self.events = Counter("headwater_events_learned", "New events learned", registry=registry)
        self.busy_seconds = Counter(
            "headwater_learner_busy_seconds", "Time that learning them took, without waiting", registry=registry
        )
        self.steps = Counter("headwater_steps", "Optimizer steps", registry=registry)
        self.rehearsed = Counter("headwater_steps_rehearsed", "Steps on the past alone, while idle", registry=registry)
        self.versions = Counter("headwater_versions_published", "Snapshots published", registry=registry)
        self.held_back = Counter(
            "headwater_versions_held_back", "Snapshots written that latest was not moved to", registry=registry
        )
        self.version = Gauge("headwater_snapshot_version", "Newest published version", registry=registry)
        self.skipped_in_a_row = Gauge(
            "headwater_steps_skipped_in_a_row", "Newest steps without a finite loss; 0 is well", registry=registry
        )
        self.vocabulary = Gauge("headwater_vocabulary_rows", "Rows of the item table", registry=registry)
        self.described = Gauge("headwater_items_described", "Items that the catalogue describes", registry=registry)
        self.undescribed = Counter(
            "headwater_items_undescribed", "News of items beyond learn.max_described", registry=registry
        )
        self.unpublished = Gauge("headwater_unpublished_records", "Records that no version holds", registry=registry)
        self.behind = Gauge(
            "headwater_learner_behind_seconds", "Age of the newest learned record; 0 when idle", registry=registry
        )
        self.quality = Gauge(
            "headwater_prequential",
            "Prequential figures, over all events and the last",
            ["figure"],
            registry=registry,
        )

    def serve(self, host: str, port: int) -> None:
        """Answer GET /metrics; raises `SetupError` where the port is in use."""
        try:
            start_http_server(port, addr=host, registry=self.registry)
        except OSError as error:
            raise SetupError(f"learner.metrics_port: port {port} on {host} is in use; choose another port") from error

    def show(self, figures: Mapping[str, float]) -> None:
        """Set the prequential gauges."""
        for name, value in figures.items():
            self.quality.labels(name).set(value)
