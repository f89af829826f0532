"""What Prometheus may read at /metrics. One registry an application, so that two of them count apart."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from flows.serving.follower import Follower

_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """Counters of the service. Labels name lanes and versions, never films."""

    def __init__(self, followers: Sequence[Follower]) -> None:
        registry = self._registry = CollectorRegistry()

        def counter(name: str, what: str, *labels: str) -> Counter:
            return Counter(f"plumbline_{name}", what, labels, registry=registry)

        def histogram(name: str, what: str, *labels: str) -> Histogram:
            return Histogram(f"plumbline_{name}", what, labels, buckets=_BUCKETS, registry=registry)

        self.requests = counter("requests", "requests for a prediction by HTTP status", "lane", "status")
        self.failures = counter("model_failures", "films that a model failed on", "lane", "version", "arm")
        self.fallbacks = counter("canary_fallbacks", "challenger failed, champion answered", "lane")
        self.latency = histogram("request_seconds", "from the first byte to the answer", "lane")
        self.seconds = histogram("model_seconds", "of the model alone", "lane", "version", "arm")
        self.waiting = Gauge("plumbline_films_in_house", "films taken in and not answered", registry=registry)
        registry.register(_OfFollowers(followers))

    def text(self) -> bytes:
        """In Prometheus's text format."""
        return generate_latest(self._registry)


class _OfFollowers(Collector):
    """Read at each scrape, from the followers themselves."""

    def __init__(self, followers: Sequence[Follower]) -> None:
        self._followers = followers

    def collect(self) -> Iterable[Metric]:
        def gauge(name: str, what: str, *labels: str) -> GaugeMetricFamily:
            return GaugeMetricFamily(f"plumbline_{name}", what, labels=labels)

        ready = gauge("ready", "1 once a model of the lane is loaded and checked", "lane")
        age = gauge("registry_age_seconds", "since the registry answered last", "lane")
        swaps = CounterMetricFamily("plumbline_swaps", "changes of the champion", labels=["lane"])
        refusals = CounterMetricFamily("plumbline_refusals", "models that were not let in", labels=["lane"])
        percent = gauge("canary_percent", "the challenger's share of the films", "lane")
        info = gauge("model_info", "the loaded models", "lane", "name", "version", "key", "trained_on", "arm")
        for follower in self._followers:
            lane, lineup = follower.source.lane, follower.lineup
            ready.add_metric([lane], lineup is not None)
            age.add_metric([lane], follower.age_s)
            swaps.add_metric([lane], follower.swaps)
            refusals.add_metric([lane], follower.refusals)
            percent.add_metric([lane], 0.0 if lineup is None else lineup.percent)
            loaded = {} if lineup is None else {"champion": lineup.champion, "challenger": lineup.challenger}
            for arm, served in loaded.items():
                if served is not None:
                    target = served.target
                    labels = [lane, target.name, str(target.version), target.key, served.card.dataset, arm]
                    info.add_metric(labels, 1)
        return [ready, age, swaps, refusals, percent, info]
