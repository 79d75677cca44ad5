"""`metrics()`: what it says is what happened, and the page says what the class does."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import pickle
import re
import threading
from pathlib import Path

import pytest

import aof2
from aof2.coordinator.commands import Evict
from aof2.coordinator.handlers import handle
from aof2.meters import LATENCY_BOUNDS_S, Recorder
from aof2.metrics import Sample

PAGE = Path(__file__).resolve().parents[2] / "docs" / "metrics.md"


def rows(heading: str) -> list[list[str]]:
    """The cells of a section's table, without its head."""
    text = PAGE.read_text(encoding="utf-8").split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    lines = re.findall(r"^\|.*\|$", text, re.M)[2:]
    return [[cell.strip().strip("`") for cell in line[1:-1].split("|")] for line in lines]


def test_the_page_lists_every_metric_as_it_is():
    """Goal: who believes the page is right. Method: compare names, kinds, units and labels."""
    told = [row[:5] for row in rows("Every metric")]
    fields = dataclasses.fields(aof2.Metrics)
    assert told == [
        [f.name, *(f.metadata[key] for key in ("name", "kind", "unit", "label"))] for f in fields
    ]
    for row in rows("Every metric"):
        assert row[5], f"{row[0]} has no meaning"


@pytest.mark.parametrize("field", dataclasses.fields(aof2.Metrics), ids=lambda f: f.name)
def test_names_are_those_of_prometheus(field):
    """Goal: one rule for names. Method: prefix, and the end by kind."""
    name, kind = field.metadata["name"], field.metadata["kind"]
    assert re.fullmatch(r"aof_[a-z0-9_]+", name)
    assert name.endswith("_total") == (kind == "counter")
    if kind == "histogram" or field.metadata["unit"] == "seconds":
        assert name.endswith("_seconds")


def test_a_snapshot_is_what_happened(tmp_path):
    """Goal: numbers that can be trusted. Method: a few seals with a tier 2, all counted by hand."""
    with aof2.open(tmp_path / "r", tier2=str(tmp_path / "cold")) as manager:
        log = manager.stream("s")
        for n in range(3):
            log.append(b"%d" % n)
            log.seal(timeout=20)
        manager.drain("remote", timeout=20)
        log.append(b"last", durable=True)
        found = manager.metrics()
        again = pickle.loads(pickle.dumps(found))
        used = manager.bytes_used
    assert again == found
    for name in ("Rollover", "Compress", "Upload"):
        assert found.commands_done[name] == found.command_duration[name].count == 3
        assert found.command_failures[name] == found.command_retries[name] == 0
    assert found.segments == {"hot": 3, "warm": 3, "cold": 3}
    assert found.segment_bytes["hot"] == found.segment_bytes["cold"] > 3 * 8192
    assert found.next_offset == {"s": 4}
    assert (found.local_lag, found.remote_lag) == ({"s": 0}, {"s": 1})
    assert (found.compress_backlog, found.upload_backlog) == (0, 0)
    assert found.tier2_requests["put"] > 3  # The segments, and the manifest that names them.
    assert found.tier2_bytes["put"] > 0
    assert sum(found.tier2_errors.values()) == 0
    assert found.fsync_duration.count >= 4
    assert found.fsync_duration.sum_s > 0
    assert found.tier_bytes_used == {"hot": used[0], "warm": used[1]}
    assert found.tier_bytes_max["hot"] == aof2.Tier0Config().bytes_max
    assert found.queue_depth == {"urgent": 0, "read": 0, "background": 0}
    assert (found.breaker_state, found.worker_deaths, found.durability_lost) == (0, 0, 0)
    assert found.manifest_chunks["s"] >= 1


def test_a_snapshot_cannot_be_changed_and_lists_all_its_samples(tmp_path):
    """Goal: frozen, and complete for exporters. Method: assign; count samples against fields."""
    with aof2.open(tmp_path) as manager:
        manager.stream("a").append(b"x")
        manager.stream("b").append(b"x")
        found = manager.metrics()
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.worker_deaths = 1  # type: ignore[misc]
    samples = list(found.samples())
    assert Sample("aof_next_offset", "gauge", {"stream": "b"}, 1) in samples
    plain = [f for f in dataclasses.fields(found) if not f.metadata["label"]]
    assert sum(1 for sample in samples if not sample.labels) == len(plain)


def test_waits_are_counted_and_timed_only_when_there_are_any(tmp_path):
    """Goal: the append path pays for no counter. Method: a first append, which waits for a segment,
    and one told that it would have to; then many that do neither."""
    gate = threading.Event()
    with aof2.open(tmp_path) as manager:
        manager._coordinator.before = lambda command: gate.wait(20)
        log = manager.stream("s")
        with pytest.raises(aof2.WouldBlock):
            log.append_nowait(b"x")
        assert manager.metrics().would_block == {"rollover": 1}
        assert manager.metrics().admission_wait.count == 0
        threading.Timer(0.05, gate.set).start()
        log.append(b"x")
        for _ in range(100):
            log.append(b"x")
        found = manager.metrics()
    assert found.admission_wait.count == 1
    assert found.admission_wait.sum_s >= 0.01
    assert found.would_block == {"rollover": 2}


def test_the_three_forms_of_an_append_are_counted_alike(tmp_path):
    """Goal: a program that waits is as visible as one that is refused. Method: each form meets a
    stream without a segment; one each whose time is up; count calls and waits."""
    gate = threading.Event()
    with aof2.open(tmp_path) as manager:
        manager._coordinator.before = lambda command: gate.wait(20)
        log = manager.stream("s")
        with pytest.raises(aof2.WouldBlock):
            log.append_nowait(b"x")
        with pytest.raises(aof2.WaitTimeout) as late:
            log.append(b"x", timeout=0.01)
        assert late.value.retry_after_s > 0
        assert late.value.wait(0) is False
        with pytest.raises(aof2.WaitTimeout):
            asyncio.run(log.append_async(b"x", timeout=0.01))
        assert manager.metrics().would_block == {"rollover": 3}
        assert manager.metrics().admission_wait.count == 0
        threading.Timer(0.05, gate.set).start()
        asyncio.run(log.append_async(b"x"))
        found = manager.metrics()
    assert found.admission_wait.count == 1
    assert found.admission_wait.sum_s >= 0.01
    assert found.would_block == {"rollover": 4}


def test_a_readonly_manager_tells_what_it_sees(tmp_path):
    """Goal: no writer is needed to look. Method: metrics and health of a readonly manager."""
    with aof2.open(tmp_path) as manager:
        manager.stream("s").append(b"x", durable=True)
        with aof2.open(tmp_path, readonly=True) as beside:
            beside.stream("s")
            assert beside.metrics().next_offset == {"s": 1}
            assert beside.health() == aof2.Health("ok")


def test_what_is_closed_says_so_whenever_it_is_asked(tmp_path):
    """Goal: an exporter that goes on during a close gets one error, a clear one. Method: threads
    ask all the time while a manager is closed, and after."""
    manager = aof2.open(tmp_path)
    for n in range(8):
        manager.stream(f"s{n}").append(b"x")
    ends: list[BaseException] = []

    def ask() -> None:
        try:
            while True:
                manager.metrics()
                manager.health()
                assert manager.bytes_used
        except BaseException as error:
            ends.append(error)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    manager.close()
    for thread in threads:
        thread.join(20)
    assert [type(error) for error in ends] == [aof2.Closed] * 4
    for call in (manager.metrics, manager.health, lambda: manager.bytes_used):
        with pytest.raises(aof2.Closed, match="open the root again"):
            call()


def test_bytes_that_only_readers_keep_on_the_disk_are_counted(tmp_path):
    """Goal: where the disk went, when budgets say that it is free. Method: two readers in a hot
    segment and one in a warm one; both files are dropped; then all are let go of. A file in
    quarantine has a name, and does not count."""
    config = aof2.AofManagerConfig(segment=aof2.SegmentConfig(segment_bytes_max=64 << 10))
    with aof2.open(tmp_path / "r", tier2=str(tmp_path / "cold"), config=config) as manager:
        log = manager.stream("s")
        for n in range(3):
            log.append(b"%d" % n * 30_000)
            log.seal(timeout=20)
        manager.drain("remote", timeout=20)
        assert manager.metrics().leased_bytes == {"hot": 0, "warm": 0}
        reader, other = log.reader(start=0), log._instance.open_segment(1)
        assert reader.read().payload == b"0" * 30_000
        sizes = log._instance.hot.sizes[1], log._instance.warm.sizes[2]
        handle(Evict("s", 1, aof2.Tier.HOT), manager._context)
        handle(Evict("s", 2, aof2.Tier.HOT), manager._context)
        held = log._instance.open_segment(2)
        assert held.tier is aof2.Tier.WARM
        assert manager.metrics().leased_bytes == {"hot": sizes[0], "warm": 0}
        handle(Evict("s", 2, aof2.Tier.WARM), manager._context)
        assert manager.metrics().leased_bytes == {"hot": sizes[0], "warm": sizes[1]}
        aside = log._instance.open_segment(3)
        assert aside.tier is aof2.Tier.HOT
        log._instance.hot.set_aside(3, log._instance.hydration.quarantine, 1)
        assert manager.metrics().leased_bytes == {"hot": sizes[0], "warm": sizes[1]}
        del reader, held, other
        gc.collect()
        assert manager.metrics().leased_bytes == {"hot": 0, "warm": 0}


def test_a_histogram_adds_up_and_knows_its_quantiles():
    """Goal: percentiles without samples. Method: known values, below, on and above the bounds."""
    recorder = Recorder()
    for seconds in (0.0, 1e-6, 1.1e-6, 0.5, 1e9):
        recorder.record(seconds)
    found = recorder.snapshot()
    assert found.counts[:2] == (2, 1)
    assert (found.count, found.counts[-1]) == (5, 1)
    assert found.sum_s == pytest.approx(1e9)
    assert found.quantile_s(0.4) == LATENCY_BOUNDS_S[0]
    assert 0.5 <= found.quantile_s(0.8) <= 2.0
    assert found.quantile_s(1.0) == float("inf")
    assert (found + found).count == 10
    assert aof2.Histogram().quantile_s(0.5) == 0.0
    with pytest.raises(ValueError, match="bounds"):
        found + aof2.Histogram((1.0,), (0, 0))


def test_prometheus_gets_every_sample(tmp_path):
    """Goal: the exporter leaves nothing out. Method: scrape with the real package, compare."""
    client = pytest.importorskip("prometheus_client")
    import aof2.prometheus

    registry = client.CollectorRegistry()
    cold = str(tmp_path / "cold")
    with aof2.open(tmp_path / "a", tier2=cold) as one, aof2.open(tmp_path / "b") as two:
        log = one.stream("s")
        log.append(b"x")
        one.drain("remote", timeout=20)
        collectors = [aof2.prometheus.register(manager, registry) for manager in (one, two)]
        page = client.generate_latest(registry).decode()
        for manager in (one, two):
            for sample in manager.metrics().samples():
                labels = {"root": manager.root, **sample.labels}
                name = sample.name
                if isinstance(sample.value, aof2.Histogram):
                    name += "_count"
                    last = registry.get_sample_value(
                        f"{sample.name}_bucket", {**labels, "le": "+Inf"}
                    )
                    assert last == sample.value.count
                assert registry.get_sample_value(name, labels) is not None, name
        assert registry.get_sample_value("aof_next_offset", {"root": one.root, "stream": "s"}) == 1
        assert "# TYPE aof_commands_done_total counter" in page
        for collector in collectors:
            collector.unregister()
        assert client.generate_latest(registry) == b""
