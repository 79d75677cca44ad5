"""Which store a URL makes, and what is said of one that makes none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from aof2._core.checksum import crc64nvme
from aof2.errors import ConfigError
from aof2.objectstore import LocalStore, MemoryStore, open_store


def test_paths_and_file_urls_are_directories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Goal: every way to write a directory works. Method: five ways, one directory each."""
    monkeypatch.chdir(tmp_path)
    for url, made in [
        (str(tmp_path / "a"), "a"),
        (tmp_path / "b", "b"),
        ("c/d", "c/d"),
        (f"file://{tmp_path}/e%20f", "e f"),
        (f"file://{tmp_path}/g/", "g"),
    ]:
        store = open_store(url)
        assert isinstance(store, LocalStore)
        assert store.describe() == f"directory {tmp_path / made}"
        assert (tmp_path / made).is_dir()


def test_a_memory_store_is_known_by_its_name_in_the_whole_process():
    """Goal: close and reopen find the objects. Method: the same name twice, and another one."""
    with open_store("memory://test-open-store/one") as store:
        store.put("k", b"x", crc64=crc64nvme(b"x"))
    again = open_store("memory://test-open-store/one")
    assert isinstance(again, MemoryStore)
    assert again.get_range("k", 0, 1) == b"x"
    assert open_store("memory://test-open-store/two").head("k") is None


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("", {}),
        ("a\0b", {}),
        ("memory://", {}),
        ("memory://a b", {}),
        ("file://host/directory", {}),
        ("file:///directory?query", {}),
        ("gs://user:secret@bucket", {}),
        ("https://secret@bucket.s3.amazonaws.com", {}),
        ("S3://bucket", {}),
        ("memory://x", {"endpoint_url": "http://host"}),
        ("directory", {"secret_access_key": "secret"}),
    ],
)
def test_another_url_is_a_config_error_that_names_the_accepted_forms(
    url: str, options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Goal: the error helps, shows no secret, and makes nothing. Method: a table."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="s3://bucket/prefix") as caught:
        open_store(url, **options)
    assert "secret@" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
