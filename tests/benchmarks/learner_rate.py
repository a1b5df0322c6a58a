"""How fast a learner learns a log that is there, beside the worker that made it, and where its time goes.

    KAFKA_HOME=... python -m tests.benchmarks.learner_rate [--data ml-100k] [--limit ROWS]

1. The data set goes through the broker and one worker; both are timed.
2. A learner with the demo's settings learns all samples and publishes as it does: samples and events a second.
3. Another one does the same under cProfile, from the same samples: the share of each part.
"""

import argparse
import cProfile
import os
import pstats
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from deploy.bench.bench_broker import BenchBroker, bare_environment, bench_broker
from deploy.bench.own_workers import OwnWorkers
from deploy.evaluate import model_of
from deploy.settings import Settings
from model.settings import LearnSettings
from storage.snapshot_store import SnapshotStore
from streams.dataset import Dataset
from streams.learned_model import LearnedModel
from streams.learner import Learner
from streams.learner_metrics import LearnerMetrics
from streams.learner_process import connect_consumer
from streams.log_reader import Topics
from streams.replay_process import run_replay
from streams.topics import create_topics, existing_topic
from tests.benchmarks.prequential_table import dataset_of

LIMIT_SECONDS = 1_800.0
PARTS = {
    "read, merge and decode samples": [("log_reader.py", "poll"), ("log_reader.py", "take")],
    "micro-batches": [("batch.py", "sequences"), ("batch.py", "fits"), ("batch.py", "add")],
    "ids to rows": [("living_items.py", "encode")],
    "forward, new events": [("online.py", "_forward")],
    "score and rank": [("scoring.py", "score")],
    "losses, replayed sequences among them": [("retrieval_loss.py", "__call__"), ("objective.py", "ranking_loss")],
    "backward": [("graph.py", "_engine_run_backward")],
    "optimizers": [("optimizer.py", "step"), ("item_table.py", "learn"), ("dense_average.py", "update")],
    "counts, meters, replay": [("online.py", "_count"), ("replay.py", "put"), ("replay.py", "draw")],
    "figures for Prometheus": [("learned_model.py", "figures")],
    "served version, asked about targets": [("staleness.py", "count")],
    "cut of a version": [("learned_model.py", "cut")],
}
"""Functions of each part, none inside another one's."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="ml-100k")
    parser.add_argument("--limit", type=int)
    options = parser.parse_args()
    dataset = dataset_of(options.data).head(options.limit)
    with TemporaryDirectory() as folder, bench_broker(Path(os.environ["KAFKA_HOME"]), Path(folder)) as broker:
        settings = _settings(dataset, broker)
        _make_samples(dataset, settings, broker)
        num_samples = sum(broker.ends(settings.topics.samples, settings.topics.num_partitions).values())
        events, seconds = _learn(settings, num_samples, broker.folder / "timed")
        rates = f"{num_samples / seconds:,.0f} samples and {events / seconds:,.0f} events a second"
        print(f"learner: {rates}, {seconds:.1f} s in all")
        profile = cProfile.Profile()
        with _profiled(profile):
            _learn(settings, num_samples, broker.folder / "profiled")
        _print_parts(pstats.Stats(profile))


def _settings(dataset: Dataset, broker: BenchBroker) -> Settings:
    usual = Settings()
    return replace(
        usual,
        kafka=replace(broker.kafka, group="rate"),
        store=replace(usual.store, actions=dataset.action_names),
        model=model_of(dataset, usual.model),
        learn=LearnSettings(),
    )


def _make_samples(dataset: Dataset, settings: Settings, broker: BenchBroker) -> None:
    """Step 1."""
    create_topics(settings.kafka, settings.topics)
    began = time.monotonic()
    run_replay(dataset, settings.kafka, settings.topics, rate=1e9, learner_url="", broken=0, progress=None)
    print(f"producer: {len(dataset) / (time.monotonic() - began):,.0f} events a second")
    ends = broker.ends(settings.topics.events, settings.topics.num_partitions)
    with OwnWorkers(settings, broker.folder / "workers", workers=1, environ=bare_environment(os.environ)) as workers:
        measured = workers.run({number: end for number, end in ends.items() if end}, LIMIT_SECONDS)
    print(f"worker: {len(dataset) / measured.seconds:,.0f} events a second, every sample sent")


def _learn(settings: Settings, num_samples: int, folder: Path) -> tuple[int, float]:
    """Learn all samples; how many events that were, and how long it took."""
    store = SnapshotStore(replace(settings.snapshots, url=str(folder)))
    topics = Topics(settings.topics.samples, settings.topics.items)
    topic_ids = {topic: existing_topic(settings.kafka, topic).topic_id for topic in topics}
    model = LearnedModel.open(store, settings.model, settings.learn, topic_ids)
    learner = Learner(settings.learner, model, connect_consumer(settings.kafka), topics, LearnerMetrics())
    done = threading.Thread(target=_stop_when_done, args=(learner, num_samples))
    began = time.monotonic()
    done.start()
    learner.run()
    done.join()
    learner.consumer.close()
    return model.num_events, time.monotonic() - began


def _stop_when_done(learner: Learner, num_samples: int) -> None:
    deadline = time.monotonic() + LIMIT_SECONDS
    while learner.metrics.samples._value.get() < num_samples and time.monotonic() < deadline:
        time.sleep(0.05)
    learner.stopping.set()


@contextmanager
def _profiled(profile: cProfile.Profile) -> Iterator[None]:
    profile.enable()
    yield
    profile.disable()


def _print_parts(stats: pstats.Stats) -> None:
    """Step 3: cumulative time of each part's functions, over that of the whole loop."""
    entries = stats.stats  # type: ignore[attr-defined]  # typeshed leaves it out
    spent = {(Path(file).name, name): entry[3] for (file, _, name), entry in entries.items()}
    whole = spent["learner.py", "run"]
    shares = {part: sum(spent.get(each, 0.0) for each in functions) / whole for part, functions in PARTS.items()}
    for part, share in sorted(shares.items(), key=lambda pair: -pair[1]):
        print(f"{share:6.1%}  {part}")
    print(f"{1 - sum(shares.values()):6.1%}  all else")


if __name__ == "__main__":
    main()
