"""Negative controls: the same harness over a library with one thing wrong. It must find each.

What is wrong is made in the log of a life (a sync that was not made, two steps in another order),
or by a patch of the library's Python. A case is one mutant; it fails where nothing was found.
"""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from unittest import mock

from aof2.errors import AofError
from aof2.torture.bucket_world import take_over
from aof2.torture.crash_states import Episode
from aof2.torture.disk import Logged
from aof2.torture.life import KIB, Workload
from aof2.torture.row import Cases, Row, Setting, Tally
from aof2.torture.two_writers import orders, play, read_too_early
from aof2.torture.workloads import WORKLOADS

Steps = list[Logged]
Mutation = Callable[[Steps], Steps]
STATES = 150
EPISODES_MAX = 20
"""So many lives are tried before a mutant counts as not found."""

_BY_NAME = {workload.name: workload for workload in WORKLOADS}
EVICTIONS = Workload("evictions to warm", "fill fill fill fill fill fill fill fill fill work some")
EVICTED = Workload("evictions of large segments", "one*24 work one*12 work", bytes_max=16 * KIB)


@dataclass(frozen=True)
class Mutant:
    """One thing that is wrong.

    Attributes:
        name: What.
        workloads: Lives that show it.
        mutate: Changes a log.
        patch: Or changes the library.
    """

    name: str
    workloads: tuple[Workload, ...] = ()
    mutate: Mutation = list
    patch: Callable[[], AbstractContextManager[object]] = nullcontext


# --- what is done to a log ------------------------------------------------------------------------


def paths(steps: Steps) -> Iterator[tuple[Logged, str]]:
    """Each step with the name that its file has at that moment."""
    names: dict[int, str] = {}
    for logged in steps:
        op, _, inode, _, _, _, raw, data = logged
        if op == "created":
            names[inode] = raw.decode()
        elif op == "rename":
            moved = [at for at, name in names.items() if name == data.decode()]
            names.update(dict.fromkeys(moved[-1:], raw.decode()))
        yield logged, names.get(inode, "")


def without(op: str, part: str) -> Mutation:
    """Leave out an operation on files whose name has a part."""
    return lambda steps: [
        logged for logged, name in paths(steps) if not (logged[0] == op and part in name)
    ]


def no_directory_syncs(steps: Steps) -> Steps:
    """Leave out every sync of a directory."""
    return [logged for logged in steps if logged[0] != "fsync_dir"]


def no_root_sync(steps: Steps) -> Steps:
    """Leave out the syncs of the first directory that is synced: the root."""
    root = next(logged[2] for logged in steps if logged[0] == "fsync_dir")
    return [logged for logged in steps if (logged[0], logged[2]) != ("fsync_dir", root)]


def rename_first(steps: Steps) -> Steps:
    """Files get their names, durably, before their contents are synced."""
    out: Steps = []
    held: Steps = []
    for logged, name in paths(steps):
        if logged[0] == "fdatasync" and name.startswith(".tmp-"):
            held.append(logged)
            continue
        out.append(logged)
        if logged[0] == "fsync_dir":
            out += held
            held = []
    return out + held


def ended_unsynced(steps: Steps) -> Steps:
    """A segment is not synced any more once the next one has begun."""
    out, newest = [], ""
    for logged, name in paths(steps):
        is_segment = name.endswith(".seg") and not name.startswith(".tmp-")
        if logged[0] == "pwrite" and is_segment:
            newest = max(newest, name)
        if not (logged[0] == "fdatasync" and is_segment and name < newest):
            out.append(logged)
    return out


def earlier(is_moved: Callable[[Logged, str], bool], by: int) -> Mutation:
    """Some steps happen so many steps too early."""

    def mutate(steps: Steps) -> Steps:
        out: Steps = []
        for logged, name in paths(steps):
            if is_moved(logged, name):
                out.insert(max(0, len(out) - by), logged)
            else:
                out.append(logged)
        return out

    return mutate


def synced_after_the_next(steps: Steps) -> Steps:
    """The flush of a segment that has ended comes behind the next flush of the one that follows,
    and behind what was told of it."""
    out: Steps = []
    held: Steps = []
    newest, told = "", False
    for logged, name in paths(steps):
        is_segment = name.endswith(".seg") and not name.startswith(".tmp-")
        if logged[0] == "pwrite" and is_segment:
            newest = max(newest, name)
        if logged[0] == "fdatasync" and is_segment and name < newest:
            held.append(logged)
            told = False
            continue
        out.append(logged)
        told = told or fact_of(logged) == "durable"
        if held and told and logged[0] == "fdatasync" and is_segment:
            out += held
            held = []
    return out + held


def in_slots(logged: Logged, name: str) -> bool:
    """Whether a step writes a confirmation slot of a segment."""
    return logged[0] == "pwrite" and name.endswith(".seg") and 4096 <= logged[4] < 5120


def of_pointer(logged: Logged, name: str) -> bool:
    """Whether a step has to do with `current.sealed`."""
    return "current.sealed" in name or b"current.sealed" in logged[6]


def evicted_too_early(steps: Steps) -> Steps:
    """A hot file goes before its segment is compressed."""
    out: Steps = []
    begun: dict[bytes, int] = {}
    for logged in steps:
        name = logged[6]
        if logged[0] == "created" and name.startswith(b".tmp-") and name.endswith(b".seg.zst"):
            begun.setdefault(name[5:-4], len(out))
        if logged[0] == "unlink" and name in begun:
            out.insert(begun.pop(name), logged)
        else:
            out.append(logged)
    return out


def fact_of(logged: Logged) -> str:
    """Which fact a mark tells; empty for any other step."""
    return json.loads(logged[7])[0] if logged[0] == "mark" else ""


def retold(heard: str, told: str) -> Mutation:
    """Whatever is said of one level is taken for another one."""

    def mutate(steps: Steps) -> Steps:
        out: Steps = []
        for logged in steps:
            out.append(logged)
            if fact_of(logged) == heard:
                _, name, value = json.loads(logged[7])
                out.append((*logged[:7], json.dumps([told, name, value]).encode()))
        return out

    return mutate


def failure_retried(steps: Steps) -> Steps:
    """A sync that failed is tried again, and called a success."""
    out: Steps = []
    for logged in steps:
        out.append(logged)
        if logged[0] == "fdatasync" and logged[1] > 0:
            out.append((*logged[:1], 0, *logged[2:]))
            told = [each for each in out if fact_of(each) == "returned"]
            if told:
                _, name, value = json.loads(told[-1][7])
                out.append((*told[-1][:7], json.dumps(["durable", name, value]).encode()))
    return out


def no_rewrites(steps: Steps) -> Steps:
    """After a failed sync, writes of bytes that are in the page cache already are left out."""
    out: Steps = []
    failed = False
    seen: dict[tuple[int, int], bytes] = {}
    for logged in steps:
        op, answer, inode, _, position, _, _, data = logged
        failed |= op == "fdatasync" and answer > 0
        if op == "pwrite" and failed and data:
            known = b"".join(seen.get((inode, position + at), b"\0") for at in range(len(data)))
            if known == data:
                continue
        if op == "pwrite":
            seen.update({(inode, position + at): data[at : at + 1] for at in range(len(data))})
        out.append(logged)
    return out


def _named(*wanted: str) -> tuple[Workload, ...]:
    return tuple(_BY_NAME[name] for name in wanted)


_FLUSHES = _named("singles and flushes", "every record durable", "rollover and flush")
_ROLLS = _named("rollovers", "rollover and flush", "two streams that roll")
_COLD = _named("uploads", "publications", "trims and deletions")
_SLOTS = _named("idle, confirmed", "strict, every record durable", "closed and resumed")
_SEALS = _named("seals", "seals by steps", "rollovers of large records")

MUTANTS: tuple[Mutant, ...] = (
    Mutant("no sync of segments", _FLUSHES, without("fdatasync", ".seg")),
    Mutant("no sync of the manifest", _COLD, without("fdatasync", ".mlog")),
    Mutant("no sync of directories", _FLUSHES, no_directory_syncs),
    Mutant("no sync of the root directory", _FLUSHES, no_root_sync),
    Mutant("rename before fsync", _FLUSHES, rename_first),
    Mutant("no sync of an ended segment", _ROLLS, ended_unsynced),
    Mutant("no sync of stream.json", _FLUSHES, without("fdatasync", "stream.json")),
    Mutant("no sync of what is prepared", _FLUSHES, without("fdatasync", ".tmp-0")),
    Mutant("no sync of warm files", (EVICTIONS, EVICTED), without("fdatasync", ".zst")),
    Mutant("a write is not made", _FLUSHES, without("pwrite", ".seg")),
    Mutant(
        "a flush says so before it synced",
        _FLUSHES,
        earlier(lambda logged, _: fact_of(logged) == "durable", 4),
    ),
    Mutant("an append says it is durable", _FLUSHES, retold("returned", "durable")),
    Mutant("an append says it is in tier 2", _COLD, retold("durable", "remote")),
    Mutant(
        "a trim says so before its record is durable",
        _named("trims", "trims of all"),
        earlier(lambda logged, _: fact_of(logged) == "trimmed", 8),
    ),
    Mutant("EIO retried and called success", _named("a failed sync"), failure_retried),
    Mutant(
        "recovery does not rewrite",
        _named("a failed sync", "two failed syncs", "a failed sync after a rollover"),
        no_rewrites,
    ),
    Mutant("flushes of two segments swapped", _ROLLS, synced_after_the_next),
    Mutant("a slot before what it confirms", _SLOTS, earlier(in_slots, 6)),
    Mutant("the pointer before the footer", _SEALS, earlier(of_pointer, 40)),
    Mutant(
        "a segment cut before its footer is synced",
        _SEALS,
        earlier(lambda logged, name: logged[0] == "ftruncate" and name.endswith(".seg"), 8),
    ),
    Mutant("evicted before there is another copy", (EVICTIONS, EVICTED), evicted_too_early),
    Mutant(
        "tier 2 is told before it is published",
        _COLD,
        earlier(lambda logged, _: fact_of(logged) == "remote", 30),
    ),
    Mutant("a takeover reads before it claims"),
    Mutant("nobody looks for a higher claim"),
)


# --- whether it is found --------------------------------------------------------------------------


def found_by_crashes(mutant: Mutant, setting: Setting, number: int) -> str:
    """The first violation that crash states of a mutant show; empty when there is none."""
    for turn, workload in zip(range(EPISODES_MAX), itertools.cycle(mutant.workloads), strict=False):
        work = setting.work / f"control-{number}-{turn}"
        try:
            with mutant.patch():
                tally = Episode(workload, setting.seed + turn, work, mutant.mutate).run(STATES)
        finally:
            shutil.rmtree(work, ignore_errors=True)
        if tally.violations:
            return tally.violations[0]
    return ""


def found_by_races(mutant: Mutant) -> str:
    """The same of two writers on one bucket."""
    opening = read_too_early if "reads before" in mutant.name else take_over
    patch: AbstractContextManager[object] = nullcontext()
    if opening is take_over:
        patch = mock.patch("aof2.manifest.publish.assert_not_fenced", return_value=None)
    with patch:
        for order in orders():
            try:
                play(order, 1, chunks=1, opening=opening)
            except (AssertionError, AofError) as error:
                return f"{type(error).__name__}: {error}"
    return ""


def _begin(setting: Setting) -> Cases:
    def case(number: int) -> Tally:
        mutant, tally = MUTANTS[number % len(MUTANTS)], Tally()
        if mutant.workloads:
            found = found_by_crashes(mutant, setting, number)
        else:
            found = found_by_races(mutant)
        if not found:
            tally.violations.append(f"{mutant.name}: the harness finds nothing wrong with it")
        tally.counts["mutants found"] += bool(found)
        return tally

    return Cases(case)


ROW = Row(
    "controls",
    "negative controls: each mutant must be found",
    "mutants",
    len(MUTANTS),
    1,
    _begin,
    batch=1,
    case_timeout_s=600,
)
