"""A short selection of the damage row; `aof2/torture/damage.py` has all of it."""

from __future__ import annotations

import pickle
import random
import tempfile
from pathlib import Path

import pytest

from aof2.torture.damage import Bench, build, ways_for
from aof2.torture.mutations import Mutation, Mutations

SEED = 11


@pytest.fixture(scope="module")
def worlds(tmp_path_factory):
    """A closed and a killed root with their buckets."""
    return pickle.loads(pickle.dumps(build(tmp_path_factory.mktemp("damage"))))


@pytest.fixture
def bench(worlds):
    # In memory where there is such a place: a thousand roots are opened and synced.
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if shared.exists() else None) as work:
        made = Bench(worlds, Path(work), "bench")
        yield made
        made.close()


def judge(bench: Bench, mutation: Mutation) -> set[str]:
    """The verdicts of every way to meet a mutation; nothing silent, nothing that is not ours."""
    found = set()
    for way in ways_for(bench.worlds[mutation.world], mutation):
        verdict, text = bench.run(mutation, way)
        assert verdict not in ("SILENT", "UNTYPED"), f"{mutation} {way}: {text}"
        found.add(verdict)
    return found


def started(worlds, mutation: Mutation) -> bool:
    """Whether it is the segment that is not sealed yet."""
    segments = sorted(path for path in worlds[mutation.world].files if path.endswith(".seg"))
    return mutation.target == segments[-1]


KINDS = ["flip", "cut", "zero", "swap", "stale", "stale from", "delete", "roll back"]


@pytest.mark.parametrize("kind", KINDS)
def test_damage_is_an_error_or_harmless(worlds, bench, kind):
    """Goal: no damage is silent. Method: 60 mutations of a kind, over all files and objects but
    the active segment, whose recovery has tests of its own."""
    every = [m for m in Mutations(worlds) if m.kind == kind and not started(worlds, m)]
    found = set()
    for mutation in random.Random(SEED).sample(every, min(60, len(every))):
        found |= judge(bench, mutation)
    assert "same" in found
    assert kind == "roll back" or "error" in found


def test_no_file_or_object_goes_or_grows_old_unnoticed(worlds, bench):
    """Goal: the loss of a whole file is an error too, of the one that is appended to above all.
    Method: every file and object is deleted, and given back as it was at each earlier moment."""
    every = Mutations(worlds)
    for number in every.whole:
        judge(bench, every.at(number))
    newest = [m for m in map(every.at, every.whole) if started(worlds, m)]
    assert {m.kind for m in newest} == {"delete", "roll back"}
    for mutation in newest:
        assert judge(bench, mutation) == {"error"}, mutation


@pytest.mark.parametrize("kind", ["stale", "stale from"])
def test_what_another_segment_left_is_no_record(worlds, bench, kind):
    """Goal: a file belongs to one segment, byte for byte. Method: each sector of each segment, and
    all from there on, as another one has it; their frames have the same places and ordinals."""
    every = [m for m in Mutations(worlds) if m.kind == kind and m.target.endswith(".seg")]
    assert len(every) > 10
    found = set()
    for mutation in every:
        found |= judge(bench, mutation)
    assert "error" in found


def test_a_ring_that_is_older_than_the_files_hides_nothing(worlds, bench):
    """Goal: after a power cut a ring may be of any age. Method: each earlier ring of a killed root;
    a readonly manager has what the files have."""
    (ring,) = [path for path in worlds[1].older if path.endswith("landing.ring")]
    assert worlds[1].older[ring]
    for place in range(len(worlds[1].older[ring])):
        assert judge(bench, Mutation(1, ring, "roll back", place)) <= {"same", "shorter", "error"}


def test_the_worlds_have_every_artefact(worlds):
    """Goal: the row damages all that there is. Method: look for each kind of file and object."""
    for world in worlds:
        names = " ".join([*world.files, *world.objects])
        for part in (".seg ", "current.sealed", "stream.json", ".seg.zst", ".mlog", ".snap",
                     "HEAD", "epoch/", ".start", "current/"):  # fmt: skip
            assert part in names + " ", (world.name, part)
    assert any("landing.ring" in path for path in worlds[1].files)
