"""Verbs that measure: `headwater bench ...`."""

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter
from rich.console import Console

from deploy.cli_app import JsonFile, app, say

bench_app = App(name="bench", help="Measure rates, CPU seconds, memory and latencies on this machine.")
app.command(bench_app)

KafkaHome = Annotated[Path, Parameter(help="An unpacked Apache Kafka 4.", env_var="KAFKA_HOME")]
BenchFolder = Annotated[Path, Parameter(help="Where runs keep their things while they last.")]


@bench_app.command
def streams(
    *,
    kafka_home: KafkaHome,
    json: JsonFile = None,
    events: Annotated[int, Parameter(help="Events of the log that all systems read.")] = 1_000_000,
    peer_events: Annotated[int, Parameter(help="Events of the runs beside Kafka Streams; 0: none.")] = 4_000_000,
    users: int = 5_000,
    many_users: Annotated[int, Parameter(help="Users of the second log beside Kafka Streams.")] = 500_000,
    workers: Annotated[tuple[int, ...], Parameter(help="Numbers of Headwater's worker processes.")] = (1, 2),
    partitions: int = 8,
    rounds: Annotated[int, Parameter(help="How often each run of the first log is made.")] = 1,
    peer_rounds: Annotated[int, Parameter(help="How often each run beside Kafka Streams is made.")] = 3,
    only: Annotated[str, Parameter(help="Systems to run, with commas; without it, all.")] = "",
    quick: Annotated[bool, Parameter(negative="", help="A twentieth of the events, to see that it works.")] = False,
    verify: Annotated[bool, Parameter(help="Hold the whole job's stores against a plain fold of the log.")] = True,
    folder: BenchFolder = Path(".headwater/bench"),
    peer: Annotated[
        Path | None, Parameter(help="Folder of the Kafka Streams job.", env_var="HEADWATER_STREAMS_PEER")
    ] = None,
) -> int:
    """Hold the stream worker against its peers: one table, one broker, the same events.

    Rows that the file of --json holds already are not run again, so that a long run can be cut short and go on.
    """
    from deploy.bench.rows import results_table
    from deploy.bench.streams import Places, run_streams_bench
    from deploy.bench.streams_plan import SYSTEMS, StreamsPlan
    from deploy.settings import environment

    share = 20 if quick else 1
    plan = StreamsPlan(
        events=events // share,
        faust_events=30_000 // share,
        quix_events=200_000 // share,
        peer_events=peer_events // share,
        users=users,
        many_users=many_users,
        workers=workers,
        partitions=partitions,
        rounds=rounds,
        peer_rounds=1 if quick else peer_rounds,
        only=tuple(only.split(",")) if only else SYSTEMS,
    )
    places = Places(kafka_home=kafka_home, streams_peer=peer, folder=folder, environ=environment())
    results = run_streams_bench(plan, places, json, verify=verify, say=say)
    console = Console()
    (console if console.is_terminal else Console(width=180)).print(results_table(results.rows))
    return 0
