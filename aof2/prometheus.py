"""Metrics for Prometheus, by way of `prometheus-client` (extra `prometheus`)."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import Metric
from prometheus_client.registry import REGISTRY, Collector, CollectorRegistry

import aof2

ROOT = "root"


class ManagerCollector(Collector):
    """Asks a manager for a snapshot at each scrape; made by `register`."""

    def __init__(self, manager: aof2.AofManager, registry: CollectorRegistry) -> None:
        self._manager = manager
        self._registry = registry

    def describe(self) -> list[Metric]:
        """Nothing: managers share names, which their label `root` tells apart."""
        return []

    def collect(self) -> Iterator[Metric]:
        """The families of one snapshot."""
        families: dict[str, Metric] = {}
        for name, kind, labels, value in self._manager.metrics().samples():
            family = families.get(name)
            if family is None:
                # Prometheus adds the end of a counter's name itself.
                family = Metric(name.removesuffix("_total"), f"docs/metrics.md: {name}", kind)
                families[name] = family
            labels = {ROOT: self._manager.root, **labels}
            if isinstance(value, aof2.Histogram):
                _add_histogram(family, labels, value)
            else:
                family.add_sample(name, labels, value)
        yield from families.values()

    def unregister(self) -> None:
        """Stop: later scrapes leave this manager out. Call it before closing the manager."""
        self._registry.unregister(self)


def _add_histogram(family: Metric, labels: dict[str, str], histogram: aof2.Histogram) -> None:
    """Buckets add up in Prometheus's form: each has all that is below its bound."""
    below = 0
    bounds = [*(repr(bound) for bound in histogram.bounds_s), "+Inf"]
    for bound, count in zip(bounds, histogram.counts, strict=True):
        below += count
        family.add_sample(f"{family.name}_bucket", {**labels, "le": bound}, below)
    family.add_sample(f"{family.name}_count", labels, below)
    family.add_sample(f"{family.name}_sum", labels, histogram.sum_s)


def register(manager: aof2.AofManager, registry: CollectorRegistry = REGISTRY) -> ManagerCollector:
    """Add a manager's metrics to a registry; several managers may share one.

    Args:
        manager: Whose metrics; `unregister` the result before it is closed.
        registry: Where to; left out, the process's own.

    Returns:
        The collector that was added.

    Example, and more in `docs/metrics.md`:

    ```python
    collector = aof2.prometheus.register(manager)
    prometheus_client.start_http_server(9000)
    ```
    """
    collector = ManagerCollector(manager, registry)
    registry.register(collector)
    return collector
