"""`aof2-admin manifest` and `repair`, on good and on damaged streams, with and without a tier 2."""

from __future__ import annotations

import json

import pytest
from admin_process import admin, admin_json, run_here

import aof2

CONFIG = aof2.AofManagerConfig(manifest=aof2.ManifestConfig(log_only=False))


@pytest.fixture
def stream(tmp_path):
    """`(root, tier 2)` of a closed stream `orders` with two sealed segments."""
    root, tier2 = tmp_path / "root", tmp_path / "cold"
    with aof2.open(root, tier2=tier2, config=CONFIG) as manager:
        log = manager.stream("orders")
        for n in range(20):
            log.append(b"%d" % n * 100)
            if n % 10 == 9:
                log.seal()
        manager.drain("remote")
    return root, tier2


def chunk(root):
    return min(root.glob("orders-*/manifest/*.mlog"))


def damage(root):
    path = chunk(root)
    data = bytearray(path.read_bytes())
    data[8300] ^= 1
    path.write_bytes(data)


def test_inspect_shows_chunks_counts_and_keys(stream):
    """Goal: one look tells what is there. Method: text and JSON of a good stream."""
    root, tier2 = stream
    facts = admin_json("manifest", "inspect", root, "orders")
    assert facts["chunks"][0]["chunk_id"] == 1
    assert facts["chunks"][0]["crc_good"] is True
    assert facts["chunks"][0]["previous"]["chain_crc64"] == "0" * 16
    assert facts["types"]["SEAL_SEGMENT"] == facts["types"]["UPLOAD_DONE"] == 2
    assert [(tier2 / key).exists() for key in facts["keys"]] == [True, True]
    text = run_here("manifest", "inspect", root, "orders").output
    assert "SEAL_SEGMENT" in text
    assert "2 object keys" in text


def test_inspect_shows_the_life_of_one_segment(stream):
    """Goal: what happened to a segment. Method: text and JSON name the same records, in order."""
    root, _ = stream
    records = admin_json("manifest", "inspect", root, "orders", "--segment", "2")
    types = [record["type"] for record in records]
    assert types[:2] == ["SEGMENT_OPENED", "SEAL_SEGMENT"]
    assert types.index("COMPRESSION_DONE") < types.index("UPLOAD_STARTED") < len(types) - 1
    assert {record["segment_id"] for record in records} == {2}
    assert records[1]["fields"]["segment_crc64"] == f"{int(_crc(records), 16):016x}"
    text = run_here("manifest", "inspect", root, "orders", "--segment", "2").output
    assert [line.split()[5] for line in text.splitlines()[1:]] == types


def _crc(records):
    return records[1]["fields"]["segment_crc64"]


def test_export_writes_every_record_as_json(stream):
    """Goal: a program can read the log. Method: parse each line, compare with the inspector."""
    root, _ = stream
    lines = admin("manifest", "export", root, "orders").stdout.splitlines()
    found = [json.loads(line) for line in lines]
    with aof2.ManifestInspector(root, "orders") as inspector:
        expected = list(inspector.records())
    assert [r["number"] for r in found] == list(range(len(expected)))
    assert [r["type"] for r in found] == [r.type for r in expected]
    assert admin("manifest", "export", root, "orders", "--json").stdout.splitlines() == lines


def test_check_ends_with_its_verdict(stream):
    """Goal: scripts can ask. Method: a good stream, a missing object, a damaged chunk."""
    root, tier2 = stream
    assert run_here("manifest", "check", root, "orders").output == "0 errors, 0 warnings\n"
    admin("manifest", "check", root, "orders", "--tier2", tier2, "--parity")
    next(iter(sorted(tier2.rglob("*.seg.zst")))).unlink()
    admin("manifest", "check", root, "orders")
    done = admin("manifest", "check", root, "orders", "--tier2", tier2, "--json", code=1)
    told = json.loads(done.stdout)
    assert (told["errors"], told["warnings"]) == (1, 0)
    assert told["findings"][0]["text"] == "missing in the bucket"
    damage(root)
    done = admin("manifest", "check", root, "orders", code=1)
    assert chunk(root).name in done.stdout.decode()


def test_check_compares_the_json_copy_when_asked(stream):
    """Goal: parity is a switch. Method: change a value of the copy."""
    root, _ = stream
    path = next(root.glob("orders-*/manifest/index.json"))
    path.write_text(path.read_text().replace('"ext_id": 0', '"ext_id": 7', 1))
    run_here("manifest", "check", root, "orders")
    done = run_here("manifest", "check", root, "orders", "--parity", code=1)
    assert "ext_id is 7 in the copy, 0 by the log" in done.output


def test_repair_mends_and_reading_works_before_it(stream):
    """Goal: from damage to order by the command line alone. Method: cat, append, repair, append."""
    root, tier2 = stream
    damage(root)
    done = admin("append", root, "orders", "--tier2", tier2, stdin=b"x\n", code=5)
    assert b"MANIFEST_CORRUPT" in done.stderr
    assert b"aof2-admin repair" in done.stderr
    assert admin("cat", root, "orders").stdout.count(b"\n") == 20
    told = admin_json("repair", root, "orders", "--tier2", tier2)
    assert (told["segments"], told["first_offset"], told["sealed_offset"]) == (2, 0, 20)
    assert next(root.glob(f"orders-*/quarantine/{told['kept'][0]}")).is_dir()
    admin("manifest", "check", root, "orders", "--tier2", tier2)
    admin("append", root, "orders", "--tier2", tier2, stdin=b"x\n")
    assert admin("cat", root, "orders").stdout.count(b"\n") == 21


@pytest.mark.parametrize("words", [("manifest", "inspect"), ("manifest", "check"), ("repair",)])
def test_wrong_places_are_told(tmp_path, stream, words):
    """Goal: the usual exit codes. Method: no such root, no such stream, no such option."""
    root, _ = stream
    assert "ROOT_NOT_FOUND" in run_here(*words, tmp_path / "none", "orders", code=3).output
    assert "STREAM_NOT_FOUND" in run_here(*words, root, "invoices", code=3).output
    run_here(*words, root, "orders", "--strange", code=2)
