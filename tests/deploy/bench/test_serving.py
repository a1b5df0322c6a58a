"""The measurement of a server, small."""

from deploy.bench.serving import KINDS, WITH, run_serving_bench
from deploy.bench.serving_house import BenchWorker, ServingPlan
from deploy.sequence_columns import SequenceColumns


def test_every_way_answers_all_requests_and_memory_is_watched() -> None:
    """The table would be of requests that failed, or of a cache that holds nobody."""
    plan = ServingPlan(
        items=300, history=12, users=3, candidates=5, clients=2, requests=4, rounds=1, many_users=9, cache_bytes=200_000
    )
    said: list[str] = []
    figures = run_serving_bench(plan, said.append)
    assert [*figures] == [*KINDS, "memory"]
    assert all(figures[kind][way]["cpu_ratio"] > 0 for kind in KINDS for way in figures[kind])
    assert figures["POST /rank"][WITH]["per_second"] > 0
    memory = figures["memory"]
    assert 0 < memory["users_held"] < 9
    assert 100_000 < memory["most_counted_bytes"] <= plan.cache_bytes
    assert len(said) == 3 * len(KINDS) + 1


def test_news_of_the_worker_that_stands_in_are_the_rest_of_what_it_tells() -> None:
    """Users who are kept would be measured with another history than the others."""
    worker = BenchWorker(ServingPlan(items=50, history=6))
    whole = SequenceColumns(**worker.columns("3", 8))
    news = SequenceColumns(**worker.columns("3", 8, kept=6))
    assert news.behind(SequenceColumns(**worker.columns("3", 6))) == whole
