"""What is done to a cluster in one round: a fault, drawn at random, and what brings things back."""

import random
import signal
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from tests.brokers import Broker
from tests.crash.cluster import Cluster
from tests.crash.step_points import OF_SHIPPING, worker_points

NAMES = ("w1", "w2", "w3")
SHIPPING_POINTS = worker_points()
POINTS = [point for point in SHIPPING_POINTS if not point.startswith(OF_SHIPPING)]
POINT_SECONDS = 20.0
"""A point that is not reached for so long is not reached in this round; the worker is killed where it is."""

Details: TypeAlias = dict[str, Any]
Fault: TypeAlias = Callable[[Cluster, Broker, random.Random], Details]


def kill(cluster: Cluster, broker: Broker, choose: random.Random) -> Details:
    """kill -9 of one worker."""
    return _kill_some(cluster, choose, 1)


def kill_two(cluster: Cluster, broker: Broker, choose: random.Random) -> Details:
    """kill -9 of two at once."""
    return _kill_some(cluster, choose, 2)


def kill_and_wipe(cluster: Cluster, broker: Broker, choose: random.Random) -> Details:
    """kill -9, and its databases are gone; with its checkpoints, where nobody else uses them."""
    name = choose.choice(NAMES)
    _wait(choose, 1.5)
    cluster.wait_stable()
    cluster.end(name, signal.SIGKILL)
    whole = not cluster.shared and choose.random() < 0.5
    if cluster.may_wipe:
        cluster.wipe(name, checkpoints=whole)
    cluster.start(name)
    return {"workers": [name], "wiped": "all" if whole else "databases"}


def kill_at_point(cluster: Cluster, broker: Broker, choose: random.Random) -> Details:
    """kill -9 at a numbered step."""
    name, hit = choose.choice(NAMES), choose.choice([1, 1, 2, 7])
    point = choose.choice(SHIPPING_POINTS if cluster.ships else POINTS)
    cluster.wait_stable()
    cluster.end(name, signal.SIGKILL)
    cluster.prepare(name, point)
    cluster.start(name, point=point, hit=hit, ahead_records=0)
    deadline = time.monotonic() + POINT_SECONDS
    while cluster.workers[name].process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    reached = cluster.workers[name].process.poll() == -signal.SIGKILL
    cluster.end(name, signal.SIGKILL)
    cluster.start(name)
    return {"workers": [name], "point": point, "hit": hit, "reached": reached}


def stop_in_order(cluster: Cluster, broker: Broker, choose: random.Random) -> Details:
    """SIGTERM, and started again."""
    name = choose.choice(NAMES)
    assert cluster.end(name) == 0, cluster.log(name)
    _wait(choose, 2.0)
    cluster.start(name)
    return {"workers": [name]}


def freeze(cluster: Cluster, broker: Broker, choose: random.Random) -> Details:
    """SIGSTOP beyond the session or not, then SIGCONT."""
    name, seconds = choose.choice(NAMES), round(choose.choice([1.0, 7.0, 18.0]) * choose.uniform(1.0, 1.2), 1)
    cluster.freeze(name)
    time.sleep(seconds)
    cluster.thaw(name)
    return {"workers": [name], "seconds": seconds}


def kill_broker(cluster: Cluster, broker: Broker, choose: random.Random) -> Details:
    """kill -9 of the broker."""
    broker.stop(signal.SIGKILL)
    _wait(choose, 3.0)
    broker.start()
    return {}


def kill_broker_and_worker(cluster: Cluster, broker: Broker, choose: random.Random) -> Details:
    """kill -9 of both."""
    name = choose.choice(NAMES)
    broker.stop(signal.SIGKILL)
    cluster.end(name, signal.SIGKILL)
    broker.start()
    cluster.start(name)
    return {"workers": [name]}


FAULTS: Mapping[Fault, int] = {
    kill: 5,
    kill_two: 2,
    kill_and_wipe: 4,
    kill_at_point: 6,
    stop_in_order: 2,
    freeze: 1,
    kill_broker: 1,
    kill_broker_and_worker: 1,
}
"""How often each is drawn."""


def run_round(cluster: Cluster, broker: Broker, choose: random.Random) -> Details:
    """One fault under load, and recovery until records are applied in every partition; says what was done."""
    (fault,) = choose.choices(list(FAULTS), list(FAULTS.values()))
    _wait(choose, 1.0)
    began = time.monotonic()
    done = fault(cluster, broker, choose)
    cluster.wait_applied(choose.randrange(50, 200))
    return {"fault": fault.__name__, **done, "round_seconds": round(time.monotonic() - began, 1)}


def _kill_some(cluster: Cluster, choose: random.Random, count: int) -> Details:
    names = choose.sample(NAMES, count)
    _wait(choose, 1.5)
    for name in names:
        cluster.end(name, signal.SIGKILL)
    _wait(choose, 1.5)
    cluster.start(*names)
    return {"workers": names}


def _wait(choose: random.Random, most_seconds: float) -> None:
    time.sleep(choose.uniform(0.0, most_seconds))
