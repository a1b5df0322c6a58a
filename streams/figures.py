"""Figures of the running processes, read from their Prometheus endpoints."""

from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

TIMEOUT_SECONDS = 2.0
"""How long a process may take to answer."""


class Scrape:
    """The samples of one /metrics answer; a process that does not answer has none."""

    def __init__(self, text: str = "") -> None:
        families = text_string_to_metric_families(text)
        self._samples = [(sample.name, sample.labels, sample.value) for family in families for sample in family.samples]

    def __bool__(self) -> bool:
        return bool(self._samples)

    def value(self, name: str, default: float = 0.0, **labels: str) -> float:
        """Sum of the samples of that name with those labels."""
        found = [value for known, has, value in self._samples if known == name and labels.items() <= has.items()]
        return sum(found) if found else default

    def __contains__(self, name: str) -> bool:
        return any(known == name for known, _, _ in self._samples)

    def by_label(self, name: str, label: str) -> dict[str, float]:
        """Values of a name by one of its labels."""
        return {has[label]: value for known, has, value in self._samples if known == name}

    def quantile(self, name: str, share: float) -> float | None:
        """Upper bound of the bucket of a histogram that holds the quantile; None while it is empty."""
        buckets = [(float(has["le"]), value) for known, has, value in self._samples if known == f"{name}_bucket"]
        return _quantile(sorted(buckets), share)


def scrape(url: str) -> Scrape:
    """Read a /metrics endpoint; empty where it does not answer."""
    try:
        return Scrape(httpx.get(url, timeout=TIMEOUT_SECONDS).raise_for_status().text)
    except httpx.HTTPError:
        return Scrape()


def get_json(url: str, **parameters: str | int) -> dict[str, Any] | None:
    """Read a JSON endpoint; None where it does not answer with success."""
    try:
        answer = httpx.get(url, params=parameters, timeout=TIMEOUT_SECONDS).raise_for_status().json()
    except (httpx.HTTPError, ValueError):
        return None
    return answer if isinstance(answer, dict) else None


def _quantile(buckets: list[tuple[float, float]], share: float) -> float | None:
    total = buckets[-1][1] if buckets else 0
    if not total:
        return None
    return next(bound for bound, count in buckets if count >= share * total)
