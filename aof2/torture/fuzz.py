"""Fuzzing every decoder: changed files, most of them under good checksums.

Nothing may end the process, take its memory, hang, or leak; what is refused is refused by our own
errors.
"""

from __future__ import annotations

import json
import os
import pickle
import random
import resource
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from aof2._core import compressed, seal
from aof2._core.chunk_link import chunk_link
from aof2._core.chunk_read import ChunkReader
from aof2._core.compressed_read import open_warm
from aof2._core.cursor import RecordCursor
from aof2._core.directory import Directory
from aof2._core.manifest import RecordType, decode, encode
from aof2._core.mapping import MappedSegment
from aof2._core.pointer import decode_pointer
from aof2._core.ringview import RingView
from aof2._core.scan import scan
from aof2._core.snapshot import capture, read_head, restore
from aof2.errors import AofError
from aof2.manifest.index import Index
from aof2.manifest.notes import Claim, Head, Start, decode_current
from aof2.torture.damage import build
from aof2.torture.forge import (
    forge_log_file,
    forge_nothing,
    forge_tail,
    forge_warm,
    mutate,
    mutate_note,
)
from aof2.torture.job import fresh
from aof2.torture.mutations import World
from aof2.torture.pool import run_forked
from aof2.torture.row import CannotRun, Cases, Row, Setting, Tally

TOGETHER = 500
"""Inputs of one case."""
MEMORY_BYTES_MAX = 1 << 30
"""A decoder that wants more was talked into it."""
FRAMES_MAX = 100_000
FORGED_SHARE = 0.8
NAME = "f"

Forge = Callable[[bytearray, random.Random], None]


@dataclass(frozen=True)
class Target:
    """A decoder, an example of what it takes, and how its checksums are made good again.

    Attributes:
        name: For people.
        example: Valid bytes.
        forge: None: the example is a note, which is changed as a whole.
        decode: Takes the bytes in a place where it may write them; raises what it likes of ours.
    """

    name: str
    example: bytes
    forge: Forge | None
    decode: Callable[[bytes, Place], object]


class Place:
    """A directory with one file, and who the stream is."""

    def __init__(self, path: Path, uuid: bytes) -> None:
        self.path, self.uuid = path, uuid
        path.mkdir(parents=True, exist_ok=True)
        self.directory = Directory(str(path))

    def write(self, data: bytes, name: str = NAME) -> None:
        """Put the input where the decoder looks for it."""
        (self.path / name).write_bytes(data)


# --- decoders -----------------------------------------------------------------------------------


def walk(source: MappedSegment, position: int = 8192) -> int:
    """Every record of a segment, as readers take them."""
    cursor = RecordCursor()
    cursor.enter(source.salt, source.base_offset, source.ext_id, position)
    count = 0
    while (window := source.window(cursor.position)) is not None and count < FRAMES_MAX:
        cursor.load(window)
        before = cursor.position
        while cursor.next_record() is not None:
            count += 1
        if cursor.position == before:
            break
    return count


def decode_segment(data: bytes, place: Place) -> None:
    """Scan, footer, whole-file check, mapped reading."""
    place.write(data)
    found = scan(place.directory, NAME)
    footer = seal.read_footer(place.directory, NAME, found)
    mapped = MappedSegment(place.directory, NAME)
    walk(mapped)
    mapped.locate(mapped.base_offset)
    mapped.locate_time(1 << 60)
    if footer is not None:
        seal.verify_sealed(place.directory, NAME, footer)


def decode_chunk(data: bytes, place: Place) -> None:
    """Replay into an index, judgement of the end, link of a sealed one."""
    place.write(data)
    with closing(ChunkReader(place.directory, NAME, stream_uuid=place.uuid, chunk_id=4)) as reader:
        reader.replay(Index().fold)
        reader.state()
    chunk_link(data, stream_uuid=place.uuid, chunk_id=4, path=NAME)


def decode_warm(data: bytes, place: Place) -> None:
    """Tables, every frame, the whole-file check."""
    place.write(data)
    with closing(open_warm(place.directory, NAME)) as segment:
        segment.footer()
        segment.locate(segment.base_offset)
        position, turns = 8192, 0
        while (window := segment.window(position)) is not None and turns < FRAMES_MAX:
            turns += 1
            if window.end <= position:
                raise AssertionError("a window without bytes: its reader would not end")
            position = window.end
    compressed.verify(place.directory, NAME)


def decode_ring(data: bytes, place: Place) -> None:
    """A ring beside a good segment, as recovery and readers in other processes use it."""
    place.write(data, "ring")
    ring = RingView(place.directory, "ring", place.uuid)
    following, _ = ring.offsets()
    ring.copy(max(64, ring.tail()) - 64, 64)
    ring.copy(following, 4096)
    scan(place.directory, "segment", ring=ring)


def decode_head(data: bytes, place: Place) -> None:
    """A snapshot's head, and the rows in it."""
    read_head(data, stream_uuid=place.uuid, path=NAME)
    index = Index()
    restore(index.fold, data, lambda page, number: b"", path=NAME)
    list(index.rows())


def page_decoder(head: bytes) -> Callable[[bytes, Place], object]:
    """The rows of an index page, as its head loads it."""

    def decode_page(data: bytes, place: Place) -> None:
        index = Index()
        restore(index.fold, head, lambda page, number: data, path=NAME)
        index.segments[7]

    return decode_page


# --- examples -----------------------------------------------------------------------------------


def targets(world: World, uuid: bytes) -> list[Target]:
    """Every decoder, with examples of a small root and its bucket."""

    def one(store: dict[str, bytes], part: str, nth: int = 0) -> bytes:
        return [data for path, data in sorted(store.items()) if part in path][nth]

    files, objects = world.files, world.objects
    found = [
        Target("sealed segment", one(files, ".seg"), forge_log_file, decode_segment),
        Target("active segment", _active(files), forge_log_file, decode_segment),
        Target("sealed chunk", one(files, "4.mlog"), forge_log_file, decode_chunk),
        Target("warm file", one(files, ".seg.zst"), forge_warm, decode_warm),
        Target("ring", one(files, "landing.ring"), forge_nothing, decode_ring),
        Target("snapshot head", one(files, ".snap"), forge_tail, decode_head),
        Target(
            "pointer",
            one(files, "current.sealed"),
            forge_tail,
            lambda data, place: decode_pointer(data, place.uuid),
        ),
        Target("manifest record", _record(), forge_nothing, lambda data, place: _fold(data)),
        _page(uuid),
    ]
    notes: tuple[tuple[str, str, Callable[..., object]], ...] = (
        ("claim", "epoch/00000000000000000001", Claim.decode),
        ("start", ".start", Start.decode),
        ("HEAD", "HEAD", Head.decode),
    )
    for name, part, decoder in notes:
        found.append(Target(name, one(objects, part), None, _note_decoder(decoder)))
    current = one(objects, "/current/")
    found.append(
        Target("current", current, None, lambda data, place: decode_current(data, key=NAME))
    )
    return found


def _note_decoder(decoder: Callable[..., object]) -> Callable[[bytes, Place], object]:
    return lambda data, place: decoder(data, uuid=place.uuid, key=NAME)


def _active(files: dict[str, bytes]) -> bytes:
    """The active segment without most of its zeros; its header says the full size."""
    last = sorted(path for path in files if path.endswith(".seg"))[-1]
    return files[last]


def _record() -> bytes:
    fields = {"key": "seg/00/0-9.seg.zst", "size": 500, "crc64": 7, "etag": '"e"'}
    return encode(RecordType.UPLOAD_DONE, 1, 9, **fields)


def _fold(data: bytes) -> None:
    decode(data)
    index = Index()
    index.apply(encode(RecordType.SEGMENT_OPENED, 1, 0, base_offset=0, epoch=1))
    index.apply(data)


def _page(uuid: bytes) -> Target:
    """The first page of a large index, under the head that names it."""
    index = Index()
    for n in range(1, 4200):
        index.apply(encode(RecordType.SEGMENT_OPENED, n, n - 1, base_offset=n - 1, epoch=1))
        facts = {"durable_bytes": 8, "segment_crc64": n, "ext_id": 0}
        facts |= {"coordinator_watermark": 0, "flush_failure": False}
        index.apply(encode(RecordType.SEAL_SEGMENT, n, n, **facts))
    made = capture(
        index.fold, number=1, stream_uuid=uuid, root_id=uuid, epoch=1, created_ns=0,
        covers=(1, 8192, 0, 0),
    )  # fmt: skip
    return Target("index page", made.pages[0][1], forge_tail, page_decoder(made.head))


# --- the row ------------------------------------------------------------------------------------


def begin(setting: Setting) -> Cases:
    """Make the examples; a case is a run of inputs to one decoder after the other."""
    # In a child, since whoever forks must have had no manager.
    (built,) = run_forked(lambda _: _store_world(setting.work), [0])
    if built.problem:
        raise CannotRun(f"the examples cannot be made: {built.problem}")
    world, uuid = pickle.loads((setting.work / "world").read_bytes())
    every = targets(world, uuid)

    def run(number: int) -> Tally:
        chance = random.Random(setting.seed * 1_000_003 + number)
        place = Place(fresh(setting.work / f"fuzz-{os.getpid()}"), uuid)
        place.write(_active(world.files), "segment")
        limit_memory()
        tally, before = Tally(units=0), len(os.listdir("/proc/self/fd"))
        for _ in range(TOGETHER):
            target = chance.choice(every)
            data = made_input(target, chance)
            tally.units += 1
            tally.counts[attempt(target, data, place, tally.violations)] += 1
        left = len(os.listdir("/proc/self/fd")) - before
        if left > 0:
            tally.violations.append(f"{left} descriptors leaked")
        place.directory.close()
        return tally

    return Cases(run)


def limit_memory() -> None:
    """Let this process, a child that only runs cases, grow by so much and no more."""
    with open("/proc/self/statm") as file:
        held = int(file.read().split()[0]) * resource.getpagesize()
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (held + MEMORY_BYTES_MAX, hard))


def made_input(target: Target, chance: random.Random) -> bytes:
    """A changed example, mostly under good checksums."""
    if target.forge is None:
        if chance.random() < FORGED_SHARE:
            return mutate_note(target.example, chance)
        return bytes(mutate(target.example, chance))
    out = mutate(target.example, chance)
    if chance.random() < FORGED_SHARE:
        target.forge(out, chance)
    return bytes(out)


def attempt(target: Target, data: bytes, place: Place, violations: list[str]) -> str:
    """Decode; the name of what came of it."""
    try:
        target.decode(data, place)
    except AofError as error:
        return type(error).__name__
    except ValueError as error:
        # What the stream's own code turns into an error of its own: a ring that is none.
        if target.name == "ring":
            return "ValueError"
        violations.append(f"{target.name}: {type(error).__name__}: {error}: {data.hex()[:4000]}")
        return "untyped"
    except BaseException as error:
        violations.append(f"{target.name}: {type(error).__name__}: {error}: {data.hex()[:4000]}")
        return "untyped"
    return "accepted"


def _store_world(work: Path) -> None:
    _, killed = build(work)
    identity = next(data for path, data in killed.files.items() if path.endswith("stream.json"))
    uuid = bytes.fromhex(json.loads(identity)["uuid"])
    (work / "world").write_bytes(pickle.dumps((killed, uuid)))


ROW = Row(
    name="fuzz",
    tries="every decoder gets changed files, most of them under good checksums",
    unit="inputs",
    full=1_000_000,
    minutes=10,
    begin=begin,
    batch=4,
)
