"""The checksum: right by three other programs, the same by every kernel, and what it accepts."""

from __future__ import annotations

import random
import sys
import threading
from collections.abc import Iterator

import numpy
import pytest
from awscrt.checksums import combine_crc64nvme as combine_crc64nvme_awscrt
from awscrt.checksums import crc64nvme as crc64nvme_awscrt
from crc import Calculator, Configuration

from aof2._core.checksum import _use, crc64nvme, crc64nvme_combine, implementation

CHECK = 0xAE8B14860A799888
ONES = 0xFFFF_FFFF_FFFF_FFFF
NAMES = ("vpclmul", "pclmul", "pmull", "table")
NOISE = random.Random(64).randbytes(1 << 17)


def _available() -> list[str]:
    """The kernels this machine can run."""
    best = implementation()
    found = []
    for name in NAMES:
        try:
            _use(name)
        except ValueError:
            continue
        found.append(name)
    _use(best)
    return found


KERNELS = _available()


@pytest.fixture(params=KERNELS)
def kernel(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each kernel of this machine in turn; the machine's own choice comes back afterwards."""
    previous = _use(request.param)
    yield request.param
    _use(previous)


def test_every_kernel_gives_the_check_value_of_the_standard(kernel: str):
    """Goal: the polynomial, the reflection and the inversions are the standard's.

    Method: the published check value, whole and in two parts; no bytes give what they continue.
    """
    assert implementation() == kernel
    assert crc64nvme(b"123456789") == CHECK
    assert crc64nvme(b"6789", crc64nvme(b"12345")) == CHECK
    assert crc64nvme(b"") == 0
    assert crc64nvme(b"", CHECK) == CHECK


def test_the_fastest_kernel_of_the_machine_is_chosen():
    """Goal: a caller gets the best kernel without asking. Method: compare with the list's order."""
    assert implementation() == KERNELS[0]
    assert KERNELS[-1] == "table"


def test_awscrt_agrees_on_every_small_size_at_every_alignment():
    """Goal: no size has a wrong way through the kernel, whatever the address.

    Method: sizes 0 to 4096 at 16 neighbouring addresses, without a copy, against awscrt.
    """
    view = memoryview(NOISE)
    for start in range(16):
        wrong = [
            size
            for size in range(4097)
            if crc64nvme(part := view[start : start + size]) != crc64nvme_awscrt(part)
        ]
        assert wrong == [], start


@pytest.mark.parametrize("size", [65535, 65536, (1 << 20) + 3, 1 << 24])
def test_awscrt_agrees_on_large_sizes(kernel: str, size: int):
    """Goal: long runs, during which the GIL is released, are right. Method: awscrt, as above."""
    data = (NOISE * (size // len(NOISE) + 1))[:size]
    assert crc64nvme(data) == crc64nvme_awscrt(data)
    assert crc64nvme(data, CHECK) == crc64nvme_awscrt(data, CHECK)


def test_every_kernel_agrees_with_the_table(kernel: str):
    """Goal: the kernels are interchangeable.

    Method: all sizes to 1200 and random larger ones, from random places and random earlier results.
    """
    rng = random.Random(1)
    view = memoryview(NOISE)
    sizes = [*range(1200), *(rng.randrange(1200, 1 << 16) for _ in range(60))]
    cases = [(rng.randrange(1 << 16), size, rng.getrandbits(64)) for size in sizes]
    got = [crc64nvme(view[at : at + size], crc) for at, size, crc in cases]
    _use("table")
    assert got == [crc64nvme(view[at : at + size], crc) for at, size, crc in cases]


@pytest.mark.parametrize("size", [1, 7, 8, 9, 15, 16, 17, 40, 129, 700])
def test_a_bitwise_calculator_agrees(kernel: str, size: int):
    """Goal: a program that only knows the definition gives the same. Method: the crc package."""
    calculator = Calculator(
        Configuration(
            width=64,
            polynomial=0xAD93D23594C93659,
            init_value=ONES,
            final_xor_value=ONES,
            reverse_input=True,
            reverse_output=True,
        )
    )
    assert crc64nvme(NOISE[:size]) == calculator.checksum(NOISE[:size])


def test_going_on_from_a_part_gives_the_whole(kernel: str):
    """Goal: it does not matter how the bytes are cut. Method: random cuts of random stretches."""
    rng = random.Random(2)
    for _ in range(300):
        data = NOISE[: rng.choice((20, 300, 3000, 70000))]
        cuts = sorted(rng.randrange(len(data) + 1) for _ in range(rng.randrange(1, 6)))
        crc = 0
        for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
            crc = crc64nvme(data[start:end], crc)
        assert crc == crc64nvme(data)


def test_combining_two_checksums_gives_that_of_both_together():
    """Goal: parts read apart make the whole's checksum. Method: random cuts, empty parts too."""
    rng = random.Random(3)
    for size in (0, 1, 2, 100, 5000, len(NOISE)):
        for cut in {0, size, rng.randrange(size + 1), rng.randrange(size + 1)}:
            a, b = NOISE[:cut], NOISE[cut:size]
            whole = crc64nvme(NOISE[:size])
            assert crc64nvme_combine(crc64nvme(a), crc64nvme(b), len(b)) == whole


@pytest.mark.parametrize("length", [1, 255, (1 << 32) + 1, *(1 << k for k in range(40, 64)), ONES])
def test_combining_holds_for_lengths_no_buffer_has(length: int):
    """Goal: no bit of a 64-bit length is lost. Method: awscrt, for each high bit and for all."""
    a, b = crc64nvme(b"a"), crc64nvme(b"b")
    assert crc64nvme_combine(a, b, length) == combine_crc64nvme_awscrt(a, b, length)


def test_the_gil_is_released_for_64_kib_and_no_less():
    """Goal: a long checksum lets other threads run; a short one does not pay for the hand-over.

    Method: another thread wants the GIL, which the interpreter takes from nobody for a minute.
    Short checksums must not let it run, long ones soon do. The slowest kernel gives the other
    thread time to wake up within one call.
    """
    previous = _use("table")
    short, long, ran, gate = NOISE[:65535], NOISE[:65536], threading.Event(), threading.Lock()

    def pass_the_gate() -> None:
        with gate:
            ran.set()

    other = threading.Thread(target=pass_the_gate)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(60)
    try:
        with gate:
            other.start()
        for _ in range(2000):
            crc64nvme(short)
        assert not ran.is_set()
        assert any(crc64nvme(long) and ran.is_set() for _ in range(100_000))
    finally:
        sys.setswitchinterval(interval)
        other.join()
        _use(previous)


@pytest.mark.parametrize(
    "make",
    [bytes, bytearray, memoryview, lambda d: numpy.frombuffer(d, dtype="<u8").reshape(2, -1)],
    ids=["bytes", "bytearray", "memoryview", "numpy"],
)
def test_any_contiguous_buffer_is_read_as_its_bytes(make):
    """Goal: no copy is needed to check a buffer. Method: the same bytes in four kinds of object."""
    data = NOISE[:4096]
    assert crc64nvme(make(data)) == crc64nvme_awscrt(data)


class _Bytes(bytes):
    """A subclass of bytes, which is not the exact type."""


def test_a_subclass_of_bytes_and_a_released_view_are_told_apart():
    """Goal: only usable buffers are read. Method: a subclass is; a released view raises."""
    assert crc64nvme(_Bytes(b"123456789")) == CHECK
    view = memoryview(b"x")
    view.release()
    with pytest.raises(ValueError, match="released"):
        crc64nvme(view)


def test_what_is_not_a_contiguous_buffer_is_refused():
    """Goal: a mistake is an error, never a checksum of something else. Method: three mistakes."""
    with pytest.raises(TypeError):
        crc64nvme("123456789")  # type: ignore[arg-type]
    with pytest.raises(BufferError):
        crc64nvme(memoryview(b"123456789")[::2])
    with pytest.raises(ValueError, match="contiguous"):
        crc64nvme(numpy.arange(10)[::2])


@pytest.mark.parametrize("number", [-1, 1 << 64])
def test_numbers_that_are_not_64_bits_are_refused(number: int):
    """Goal: a wrong checksum is not taken for its low bits. Method: one too low, one too high."""
    with pytest.raises(OverflowError):
        crc64nvme(b"", number)
    with pytest.raises(OverflowError):
        crc64nvme_combine(0, number, 0)
    with pytest.raises(OverflowError):
        crc64nvme_combine(0, 0, number)


def test_an_unknown_kernel_is_refused_and_changes_nothing():
    """Goal: a misspelt name does not pass. Method: ask for one, then look at the one in use."""
    before = implementation()
    with pytest.raises(ValueError, match="no checksum kernel 'sse9'"):
        _use("sse9")
    assert implementation() == before
