"""Verbs that measure: `headwater bench ...`."""

from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter
from rich.console import Console

from deploy.cli_app import JsonFile, app, say
from deploy.json_file import write_json
from deploy.settings import environment

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


@bench_app.command
def store(
    *,
    json: JsonFile = None,
    users: Annotated[int, Parameter(help="Users whose events come in while the cost is measured.")] = 1_000,
    events: Annotated[int, Parameter(help="Events that come in meanwhile.")] = 200_000,
    readable_users: Annotated[int, Parameter(help="Users in the store that is read from.")] = 100_000,
    full_users: Annotated[int, Parameter(help="Of these, those who hold 512 events; only they are read.")] = 5_000,
    reads: int = 20_000,
    folder: BenchFolder = Path(".headwater/bench"),
) -> int:
    """Measure a store alone: its cost by length of the sequences, the bytes it writes, its reads."""
    from deploy.bench.store import StorePlan, run_store_bench

    plan = StorePlan(users=users, events=events, readable_users=readable_users, full_users=full_users, reads=reads)
    return _report(run_store_bench(plan, folder, say), json)


@bench_app.command
def restore(
    *,
    kafka_home: KafkaHome,
    json: JsonFile = None,
    events: Annotated[int, Parameter(help="Events in the checkpoint.")] = 1_000_000,
    replayed: Annotated[int, Parameter(help="Events since.")] = 400_000,
    users: int = 5_000,
    folder: BenchFolder = Path(".headwater/bench"),
) -> int:
    """Measure how soon a worker with an empty disk serves a partition again, from its shipped checkpoint."""
    from deploy.bench.restore import RestorePlan, run_restore_bench

    plan = RestorePlan(events=events, replayed=replayed, users=users)
    return _report(run_restore_bench(plan, kafka_home, folder, environment(), say), json)


@bench_app.command
def memory(
    *,
    kafka_home: KafkaHome,
    json: JsonFile = None,
    events: int = 2_000_000,
    users: int = 5_000,
    partitions: int = 8,
    folder: BenchFolder = Path(".headwater/bench"),
) -> int:
    """Measure what one worker holds in memory over a long run, and whether its timers and outbox drain."""
    from deploy.bench.memory import MemoryPlan, run_memory_bench

    plan = MemoryPlan(events=events, users=users, partitions=partitions)
    return _report(run_memory_bench(plan, kafka_home, folder, environment(), say), json)


@bench_app.command
def attention(
    *, json: JsonFile = None, rounds: Annotated[int, Parameter(help="Repetitions of each, in turns.")] = 11
) -> int:
    """Hold blocked attention against the naive einsum: speed of forward and backward, peak memory by length."""
    from deploy.bench.attention import run_attention_bench

    write_json(json, run_attention_bench(rounds, say))
    return 0


@bench_app.command
def candidates(
    *, json: JsonFile = None, rounds: Annotated[int, Parameter(help="Repetitions of each way, in turns.")] = 5
) -> int:
    """Score 1,024 candidates against a history of 1,024: one by one, in microbatches, from a cache."""
    from deploy.bench.candidates import run_candidates_bench

    write_json(json, run_candidates_bench(rounds, say))
    return 0


@bench_app.command
def retrieval(
    *,
    json: JsonFile = None,
    items: Annotated[int, Parameter(help="Size of the made catalogue.")] = 1_000_000,
    dim: Annotated[int, Parameter(help="Features of each item.")] = 64,
) -> int:
    """Look for the best of many items among all, and among clusters (which needs faiss): time and recall."""
    from deploy.bench.retrieval import run_retrieval_bench

    write_json(json, run_retrieval_bench(items, dim, say))
    return 0


@bench_app.command
def serving(
    *,
    json: JsonFile = None,
    items: Annotated[int, Parameter(help="Size of the made catalogue.")] = 100_000,
    history: Annotated[int, Parameter(help="Events of each user.")] = 512,
    rounds: Annotated[int, Parameter(help="Repetitions of each way, in turns.")] = 5,
    requests: Annotated[int, Parameter(help="Requests of each kind in a round.")] = 64,
    many_users: Annotated[int, Parameter(help="Distinct users of the run that memory is watched in.")] = 10_000,
) -> int:
    """Ask a server on one core for lists and scores: with users kept and batches, and without; its memory."""
    from deploy.bench.serving import run_serving_bench
    from deploy.bench.serving_house import ServingPlan

    plan = ServingPlan(items=items, history=history, rounds=rounds, requests=requests, many_users=many_users)
    write_json(json, run_serving_bench(plan, say))
    return 0


@bench_app.command
def vocabulary(
    *,
    json: JsonFile = None,
    rows: Annotated[int, Parameter(help="Keys, and rows of the table.")] = 1_000_000,
    ids: Annotated[int, Parameter(help="Ids that come once, through that table.")] = 10_000_000,
    hot: Annotated[int, Parameter(help="Ids that come again and again beside them.")] = 100_000,
    hot_share: Annotated[float, Parameter(help="Share of the events that is about these.")] = 0.8,
) -> int:
    """Look ids up or give them rows, beside a Python dict; and let many more come than there are rows."""
    from deploy.bench.vocabulary import run_vocabulary_bench

    write_json(json, run_vocabulary_bench(rows, ids, hot, hot_share, say))
    return 0


@bench_app.command
def utilization(
    *,
    json: JsonFile = None,
    rounds: Annotated[int, Parameter(help="Repetitions of each, in turns.")] = 9,
    threads: Annotated[int, Parameter(help="Threads of torch.")] = 2,
) -> int:
    """Hold training and scoring of the encoder against the machine's rate of matrix products."""
    from deploy.bench.utilization import run_utilization_bench

    write_json(json, run_utilization_bench(rounds, threads, say))
    return 0


def _report(figures: dict[str, Any], file: Path | None) -> int:
    write_json(file, figures)
    Console().print_json(data=figures)
    return 0
