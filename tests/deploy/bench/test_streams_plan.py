import pytest

from deploy.bench.streams_plan import StreamsPlan


def test_every_run_is_told_from_the_others() -> None:
    """Two runs of one key: the second would be taken for made."""
    runs = list(StreamsPlan(rounds=2).runs())
    assert len({run.key for run in runs}) == len(runs)


def test_all_systems_read_one_log_and_ours_is_run_in_turn_with_kafka_streams() -> None:
    """A comparison over different events, or hours apart, says nothing."""
    runs = list(StreamsPlan(peer_rounds=2).runs())
    first = [run for run in runs if run.log == runs[0].log]
    assert {run.system for run in first} == {"faust-table", "quixstreams", "kafka-streams", "aiokafka", "headwater"}
    assert {(run.job, run.workers) for run in first if run.system == "headwater"} == {
        ("append", 1),
        ("append", 2),
        ("whole", 1),
        ("whole", 2),
    }
    rest = runs[len(first) :]
    assert [run.system for run in rest] == ["kafka-streams", "headwater"] * 4
    assert {run.events for run in rest} == {4_000_000}
    assert [run.log.users for run in rest] == [5_000] * 4 + [500_000] * 4


def test_only_and_no_runs_beside_kafka_streams() -> None:
    """A quick look at one system must not take an hour."""
    assert {run.system for run in StreamsPlan(only=("aiokafka",)).runs()} == {"aiokafka"}
    assert {run.log.events for run in StreamsPlan(events=10, peer_events=0).runs()} == {10}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"events": 0}, "events must be >= 1, got 0"),
        ({"events": 7, "peer_events": 7}, "peer_events must differ from events"),
        ({"peer_rounds": -1}, "peer_rounds must be >= 0, got -1"),
        ({"workers": ()}, "workers must be numbers >= 1"),
        ({"only": ("flink",)}, "only must name systems of .*, got flink"),
    ],
)
def test_wrong_values_are_refused(values: dict[str, object], message: str) -> None:
    """They would show up as an empty table after the broker has started."""
    with pytest.raises(ValueError, match=message):
        StreamsPlan(**values)  # type: ignore[arg-type]  # wrong on purpose


def test_logs_of_a_table_do_not_share_topics() -> None:
    """A log in another's topic would be counted with it."""
    logs = {run.log for run in StreamsPlan().runs()}
    assert len({log.topics.events for log in logs}) == len(logs) == 3
