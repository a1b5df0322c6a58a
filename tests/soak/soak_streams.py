"""Rounds of random faults under load, compared with the plain fold of the log after every few; can be resumed.

    python -m tests.soak.soak_streams --rounds 100 --seed 1 --file soak.jsonl

Rounds come in legs. A leg has topics, folders and a kind of cluster of its own, all drawn from the seed; when it ends,
the log is compared with everything, and its rounds and its verdict go to the file. What that holds is not run again.
"""

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
import time
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from deploy.broker import ApacheKafka, free_port
from streams.plain_log import read_topic
from tests.brokers import JAVA_OPTIONS, Broker
from tests.crash.cluster import Cluster
from tests.crash.load import Load
from tests.soak.rounds import NAMES, run_round

EVENTS_PER_SECOND = 200


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is missing; 1 where any leg in the file found something."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--every", type=int, default=10, help="rounds of a leg")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--file", type=Path, default=Path("soak.jsonl"))
    given = parser.parse_args(arguments)
    home = os.environ.get("KAFKA_HOME")
    if not home:
        parser.error("set KAFKA_HOME to an unpacked Apache Kafka 4: nothing less can be killed like one")
    done = {line["leg"] for line in _lines(given.file) if line["seed"] == given.seed and "findings" in line}
    legs = [leg for leg in range(-(-given.rounds // given.every)) if leg not in done]
    with tempfile.TemporaryDirectory(prefix="soak-broker-") as folder:
        broker = ApacheKafka(Path(home), Path(folder), free_port(), java_options=JAVA_OPTIONS)
        with broker:
            for leg in legs:
                _append(given.file, run_leg(broker, given.seed, leg, given.every))
    return print_summary([line for line in _lines(given.file) if line["seed"] == given.seed])


def run_leg(broker: Broker, seed: int, leg: int, num_rounds: int) -> list[dict[str, Any]]:
    """Lines of its rounds, and the last with the verdict: `findings`, or what went wrong in `error`."""
    choose = random.Random(f"{seed} {leg}")
    kind: dict[str, Any] = {
        "static": choose.random() < 0.6,
        "shared": choose.random() < 0.4,
        "checkpoint_seconds": choose.choice([0.3, 2]),
    }
    ships = not kind["shared"] and choose.random() < 0.7
    lines: list[dict[str, Any]] = []
    about = {"seed": seed, "leg": leg}
    folder = Path(tempfile.mkdtemp(prefix=f"soak-{seed}-{leg}-"))
    verdict: dict[str, Any] = {**kind, "ships": ships, "began": time.strftime("%Y-%m-%d %H:%M:%S")}
    began = time.monotonic()
    try:
        kind["checkpoint_url"] = str(folder / "shipped") if ships else ""
        with Cluster(broker, folder, **kind) as cluster, kept_log(cluster, folder / "events.jsonl"):
            verdict["exits"] = cluster.exits
            with Load(cluster.kafka, cluster.topics, seed=choose.randrange(2**31), per_second=EVENTS_PER_SECOND):
                cluster.start(*NAMES)
                cluster.wait_applied(200)
                for number in range(num_rounds):
                    lines.append({**about, "round": leg * num_rounds + number, **run_round(cluster, broker, choose)})
                    print(json.dumps(lines[-1]), flush=True)
            verdict.update(cluster.assert_exact()._asdict())
        shutil.rmtree(folder)
    except Exception as error:  # a leg that fails is a result; the others are still to be run
        verdict.update(findings={"failed": 1}, error=f"{type(error).__name__}: {error}", folder=str(folder))
    lines.append({**about, "rounds": len(lines), **verdict, "seconds": round(time.monotonic() - began)})
    print(json.dumps(lines[-1]), flush=True)
    return lines


@contextmanager
def kept_log(cluster: Cluster, file: Path) -> Iterator[None]:
    """Write the log to a file where what is done with the cluster fails; every finding can be told from it."""
    try:
        yield
    except Exception:
        with file.open("w") as output:
            for record in read_topic(cluster.kafka, cluster.topics.events):
                key, value = (b64encode(each or b"").decode() for each in (record.key, record.value))
                print(json.dumps([record.partition, record.offset, record.timestamp, key, value]), file=output)
        raise


def print_summary(lines: list[dict[str, Any]]) -> int:
    """What all legs of the file found; returns the exit status."""
    rounds = [line for line in lines if "fault" in line]
    legs = [line for line in lines if "findings" in line]
    findings: Counter[str] = Counter()
    for leg in legs:
        findings.update(leg["findings"])
    exits = Counter(str(status) for leg in legs for _, status in leg["exits"])
    print(f"{len(rounds)} rounds in {len(legs)} legs, {sum(leg['seconds'] for leg in legs) / 60:.0f} minutes")
    print("faults:", ", ".join(f"{name} {count}" for name, count in Counter(r["fault"] for r in rounds).most_common()))
    print("points reached:", len({line["point"] for line in rounds if line.get("reached")}))
    print("exit statuses:", dict(exits))
    for name in ("events", "samples", "repeated"):
        print(f"{name}:", sum(leg.get(name, 0) for leg in legs))
    print("findings:", dict(findings))
    return int(any(findings.values()) or not legs)


def _lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def _append(file: Path, lines: list[dict[str, Any]]) -> None:
    with file.open("a") as output:
        output.write("".join(f"{json.dumps(line)}\n" for line in lines))


if __name__ == "__main__":
    sys.exit(main())
