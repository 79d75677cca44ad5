"""What cannot be opened: one clear error, nothing left running, nothing left on disk."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from apihelp import KIB, MIB, held, left_over, small

import aof2


def refused(root: Path, error: type[Exception], text: str = ".", **arguments: Any) -> str:
    """Open a root that must be refused, and see that nothing is left of the attempt."""
    before, there = held(), set(root.parent.iterdir())
    with pytest.raises(error, match=text) as caught:
        aof2.open(root, **arguments)
    assert isinstance(caught.value, aof2.AofError)
    shown = f"{caught.value!r} {caught.value.code} {caught.value.path}"
    # The error's traceback holds the frames it passed, and what these hold.
    del caught
    assert set(root.parent.iterdir()) == there
    assert left_over(before) == {}
    return shown


def test_a_root_that_is_a_file_is_refused(tmp_path):
    """Goal: a wrong path is named. Method: a file where the directory should be, and below one."""
    path = tmp_path / "file"
    path.write_bytes(b"mine")
    assert str(path) in refused(path, aof2.ConfigError, "root")
    refused(path, aof2.ConfigError, readonly=True)
    with pytest.raises(aof2.ConfigError):
        aof2.open(path / "below")
    assert path.read_bytes() == b"mine"


def test_a_missing_root_is_refused_for_reading(tmp_path):
    """Goal: a reader makes nothing. Method: open a path that does not exist with readonly=True."""
    refused(tmp_path / "none", aof2.ConfigError, readonly=True)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_root_without_permission_is_refused(tmp_path):
    """Goal: permissions are a clear error. Method: a parent that cannot be written to."""
    parent = tmp_path / "parent"
    parent.mkdir(mode=0o500)
    refused(parent / "root", aof2.ConfigError)


def test_a_root_on_a_pseudo_file_system_is_refused(tmp_path):
    """Goal: a place that holds no files is a clear error. Method: a directory below /proc."""
    with pytest.raises(aof2.ConfigError):
        aof2.open("/proc/self/aof2-cannot-be-here")


GOOD_NAMES = ["a", "A", "0", "orders.v2", "a-b_c.d", "-", "_", "x" * 100, "a..b"]
BAD_NAMES = [
    "", ".", "..", ".hidden", "a/b", "/a", "a\\b", "a b", "a\n", "a\0", "é", "x" * 101, "a:b", "*",
    "../a", b"a", None, 5,
]  # fmt: skip


def test_stream_names_are_checked(tmp_path):
    """Goal: a name never reaches outside the root. Method: good and bad names; the bad leave
    nothing."""
    with aof2.open(tmp_path / "root") as manager:
        for name in BAD_NAMES:
            with pytest.raises(aof2.InvalidStreamName, match="stream name"):
                manager.stream(name)  # type: ignore[arg-type]
        assert manager.streams() == []
        for name in GOOD_NAMES:
            manager.stream(name).append(name.encode())
        assert manager.streams() == sorted(GOOD_NAMES)
    with aof2.open(tmp_path / "root") as manager:
        for name in GOOD_NAMES:
            assert manager.stream(name, create=False).get(0).payload == name.encode()
    assert {p.name for p in tmp_path.iterdir()} == {"root"}


def test_a_stream_that_is_not_there_is_not_made_unasked(tmp_path):
    """Goal: create=False and readers make nothing. Method: ask for a stream that does not exist."""
    with aof2.open(tmp_path / "root") as manager:
        with pytest.raises(aof2.StreamNotFound, match="there is no stream"):
            manager.stream("a", create=False)
        with aof2.open(tmp_path / "root", readonly=True) as reader:
            with pytest.raises(aof2.StreamNotFound):
                reader.stream("a")
            with pytest.raises(aof2.InvalidStreamName):
                reader.stream("../a")
        assert manager.streams() == []


def fields(section: type, **values: Any) -> Callable[[], object]:
    return lambda: section(**values)


WRONG: dict[str, Callable[[], object]] = {
    "evict below": fields(aof2.Tier0Config, evict_to_fraction=0.09),
    "evict above": fields(aof2.Tier0Config, evict_to_fraction=1.1),
    "level below": fields(aof2.Tier1Config, level=0),
    "level above": fields(aof2.Tier1Config, level=20),
    "frame below": fields(aof2.Tier1Config, frame_bytes=4 * KIB - 8),
    "frame above": fields(aof2.Tier1Config, frame_bytes=4 * MIB + 8),
    "frame step": fields(aof2.Tier1Config, frame_bytes=8 * KIB + 4),
    "url empty": fields(aof2.Tier2Config, url=""),
    "addressing": fields(aof2.Tier2Config, url="s3://bucket", addressing_style="other"),
    "request timeout": fields(aof2.Tier2Config, url="s3://bucket", request_timeout_s=0),
    "segment below": fields(aof2.SegmentConfig, segment_bytes_max=60 * KIB),
    "segment above": fields(aof2.SegmentConfig, segment_bytes_max=1024 * MIB + 4096),
    "segment step": fields(aof2.SegmentConfig, segment_bytes_max=64 * KIB + 8),
    "ring below": fields(aof2.FlushConfig, ring_bytes=32 * KIB),
    "ring no power": fields(aof2.FlushConfig, ring_bytes=96 * KIB),
    "interval below": fields(aof2.FlushConfig, interval_s=-0.001),
    "interval above": fields(aof2.FlushConfig, interval_s=3601),
    "confirm": fields(aof2.FlushConfig, confirm_interval_s=0),
    "unflushed": fields(aof2.FlushConfig, unflushed_bytes_max=MIB - 1),
    "no workers": fields(aof2.CoordinatorConfig, workers=0),
    "many workers": fields(aof2.CoordinatorConfig, workers=65),
    "retry": fields(aof2.CoordinatorConfig, retry_delay_s=0),
    "shutdown": fields(aof2.CoordinatorConfig, shutdown_timeout_s=0),
    "chunk below": fields(aof2.ManifestConfig, chunk_bytes=12 * KIB),
    "chunk above": fields(aof2.ManifestConfig, chunk_bytes=MIB + 4096),
    "chunk step": fields(aof2.ManifestConfig, chunk_bytes=16 * KIB + 8),
    "wait": fields(aof2.AofManagerConfig, wait_timeout_s=-1),
    "tier 0 below four segments": fields(
        aof2.AofManagerConfig,
        segment=aof2.SegmentConfig(segment_bytes_max=MIB),
        tier0=aof2.Tier0Config(bytes_max=4 * MIB - 1),
    ),
    "tier 1 below two segments": fields(
        aof2.AofManagerConfig,
        segment=aof2.SegmentConfig(segment_bytes_max=MIB),
        tier1=aof2.Tier1Config(bytes_max=2 * MIB - 1),
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_value_out_of_range_is_refused_when_it_is_made(name):
    """Goal: no wrong value gets as far as a file. Method: one step beyond each border."""
    with pytest.raises(aof2.ConfigError) as caught:
        WRONG[name]()
    assert isinstance(caught.value, ValueError)


def test_the_borders_themselves_are_allowed(tmp_path):
    """Goal: the ranges are as they are written. Method: every border value at once."""
    for segment, tier0 in ((64 * KIB, 256 * KIB), (128 * KIB, 512 * KIB)):
        config = aof2.AofManagerConfig(
            tier0=aof2.Tier0Config(bytes_max=tier0, evict_to_fraction=0.1),
            tier1=aof2.Tier1Config(bytes_max=2 * segment, level=19, frame_bytes=4 * KIB),
            segment=aof2.SegmentConfig(segment_bytes_max=segment),
            flush=aof2.FlushConfig(ring_bytes=64 * KIB, interval_s=0.001, unflushed_bytes_max=MIB),
            coordinator=aof2.CoordinatorConfig(workers=1),
            manifest=aof2.ManifestConfig(chunk_bytes=16 * KIB),
            wait_timeout_s=None,
        )
        with aof2.open(tmp_path / str(segment), config=config) as manager:
            log = manager.stream("a")
            assert [log.append(b"%d" % n, timeout=30) for n in range(100)] == list(range(100))
            assert manager.config is config


def test_limits_that_do_not_fit_a_segment_are_refused_at_open(tmp_path):
    """Goal: an explicit limit is kept or refused, never bent. Method: both limits beyond the
    room."""
    for name in ("record_bytes_max", "batch_bytes_max"):
        for value in (0, -1, 64 * KIB, 1024 * MIB):
            segment = aof2.SegmentConfig(segment_bytes_max=64 * KIB, **{name: value})
            config = dataclasses.replace(small(), segment=segment)
            refused(tmp_path / "root", aof2.ConfigError, name, config=config)


def test_an_unknown_kind_of_store_is_refused(tmp_path):
    """Goal: a mistyped url is not taken for something else. Method: schemes that nobody serves."""
    for url in ("gs://bucket/prefix", "http://host/x", "s4://bucket", "s3://", "s3:///prefix"):
        refused(tmp_path / "root", aof2.ConfigError, tier2=url)
    with pytest.raises((aof2.ConfigError, TypeError)):
        aof2.open(tmp_path / "root", tier2=5)  # type: ignore[arg-type]
    assert not (tmp_path / "root").exists()


def test_a_directory_that_cannot_be_a_store_is_refused(tmp_path):
    """Goal: a local tier 2 is checked at open too. Method: a file where its directory should be."""
    path = tmp_path / "file"
    path.write_bytes(b"")
    refused(tmp_path / "root", aof2.AofError, tier2=path)


def test_a_dead_endpoint_is_refused_and_nothing_is_left(tmp_path):
    """Goal: one clear error for a store that is not there. Method: a port that nobody listens
    on."""
    tier2 = aof2.Tier2Config(
        url="s3://bucket/prefix",
        endpoint_url="http://127.0.0.1:9",
        access_key_id="key",
        secret_access_key="not-to-be-seen",
        request_timeout_s=2,
    )
    warm_up(tmp_path, tier2)
    error = refused(tmp_path / "root", aof2.Tier2Unavailable, tier2=tier2)
    assert "not-to-be-seen" not in error


def warm_up(tmp_path: Path, tier2: aof2.Tier2Config) -> None:
    """Let the S3 client load what it keeps for the life of the process."""
    with pytest.raises(aof2.AofError):
        aof2.open(tmp_path / "root", tier2=tier2)


@pytest.mark.parametrize("wrong", ["credentials", "bucket"])
def test_a_store_that_refuses_us_is_one_clear_error(tmp_path, tier2_s3, wrong):
    """Goal: wrong credentials and a missing bucket are told apart. Method: a real server."""
    if wrong == "credentials":
        tier2_s3["secret_access_key"] = "not-to-be-seen"
    else:
        tier2_s3["url"] = "s3://no-such-bucket-here/prefix"
    tier2 = aof2.Tier2Config(**tier2_s3)  # type: ignore[arg-type]
    warm_up(tmp_path, tier2)
    expected = aof2.Tier2Auth if wrong == "credentials" else aof2.Tier2Unavailable
    error = refused(tmp_path / "root", expected, tier2=tier2)
    assert "not-to-be-seen" not in error


def test_a_refused_store_leaves_an_existing_root_as_it_was(tmp_path, tier2_s3):
    """Goal: a failed open harms nothing that was there. Method: compare a root's files around
    it."""
    with aof2.open(tmp_path / "root") as manager:
        manager.stream("a").append(b"kept")
    names = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*")}
    tier2_s3["secret_access_key"] = "wrong"
    refused(tmp_path / "root", aof2.Tier2Auth, tier2=aof2.Tier2Config(**tier2_s3))
    assert {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*")} == names
    with aof2.open(tmp_path / "root") as manager:
        assert manager.stream("a").get(0).payload == b"kept"
