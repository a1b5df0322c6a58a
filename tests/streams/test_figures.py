"""Reading figures of processes that may be away."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from streams.figures import Scrape, get_json, scrape

Answer = Callable[[httpx.Request], httpx.Response]


def metrics() -> str:
    registry = CollectorRegistry()
    letters = Counter("letters", "Dead letters", ["cause", "topic"], registry=registry)
    letters.labels("too_large", "events").inc(2)
    letters.labels("empty_key", "events").inc(3)
    delay = Histogram("delay_seconds", "Delay", buckets=(0.1, 0.5, 1.0), registry=registry)
    for seconds in [0.05] * 90 + [0.3] * 6 + [3.0] * 4:
        delay.observe(seconds)
    Histogram("empty_seconds", "Nothing yet", registry=registry)
    return generate_latest(registry).decode()


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Callable[[Answer], None]:
    """Sets what every request is answered with."""

    def set_answer(answer: Answer) -> None:
        def get(url: str, params: Any = None, timeout: float = 0) -> httpx.Response:
            assert timeout > 0
            request = httpx.Request("GET", url, params=params)
            response = answer(request)
            response.request = request
            return response

        monkeypatch.setattr(httpx, "get", get)

    return set_answer


def test_values_are_summed_over_the_labels_that_are_not_asked_for() -> None:
    """Dead letters of one cause would pass for all of them."""
    scraped = Scrape(metrics())
    assert scraped
    assert scraped.value("letters_total") == 5
    assert scraped.value("letters_total", cause="empty_key") == 3
    assert scraped.value("letters_total", cause="empty_key", topic="other") == 0
    assert scraped.value("unknown", default=-1.0) == -1
    assert scraped.by_label("letters_total", "cause") == {"too_large": 2, "empty_key": 3}


def test_a_quantile_is_the_bound_of_its_bucket() -> None:
    """A delay below the true one would be reported."""
    scraped = Scrape(metrics())
    assert scraped.quantile("delay_seconds", 0.5) == 0.1
    assert scraped.quantile("delay_seconds", 0.9) == 0.1
    assert scraped.quantile("delay_seconds", 0.95) == 0.5
    assert scraped.quantile("delay_seconds", 0.99) == float("inf")
    assert scraped.quantile("empty_seconds", 0.5) is None
    assert scraped.quantile("unknown", 0.5) is None


def test_a_process_that_is_away_has_no_figures(answers: Callable[[Answer], None]) -> None:
    """The live table would die with the process that it watches."""

    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    answers(refuse)
    assert not scrape("http://127.0.0.1:1/metrics")
    assert scrape("http://127.0.0.1:1/metrics").value("x", default=7.0) == 7
    assert get_json("http://127.0.0.1:1/state") is None


def test_what_a_process_answers_is_read(answers: Callable[[Answer], None]) -> None:
    """Parameters must be part of the question."""
    answers(lambda request: httpx.Response(200, json={"asked": str(request.url)}))
    assert get_json("http://a/recommend", user_id="ä", k=3) == {"asked": "http://a/recommend?user_id=%C3%A4&k=3"}
    answers(lambda request: httpx.Response(200, text=metrics()))
    assert scrape("http://a/metrics").value("letters_total") == 5


@pytest.mark.parametrize(
    "response",
    [
        httpx.Response(503, json={"detail": "no model yet"}),
        httpx.Response(200, text="not JSON"),
        httpx.Response(200, json=[1, 2]),
    ],
)
def test_an_answer_that_is_no_success_or_no_object_is_none(
    answers: Callable[[Answer], None], response: httpx.Response
) -> None:
    """A page of a proxy would be taken for figures."""
    answers(lambda request: response)
    assert get_json("http://a/freshness") is None


def test_a_failing_metrics_endpoint_has_no_figures(answers: Callable[[Answer], None]) -> None:
    """An error page would be parsed."""
    answers(lambda request: httpx.Response(500, text="x 1"))
    assert not scrape("http://a/metrics")
