"""A plan costs what is to be done, whatever the stream's past."""

from __future__ import annotations

from coordinatorhelp import without_workers

import aof2
from aof2.manifest.index import Index, Segments

KIB = 1 << 10
CONFIG = aof2.AofManagerConfig(
    segment=aof2.SegmentConfig(segment_bytes_max=64 * KIB),
    tier0=aof2.Tier0Config(bytes_max=512 * KIB),
    tier1=aof2.Tier1Config(bytes_max=256 * KIB),
    tier2=aof2.Tier2Config(url="memory://plancost"),
)


def test_a_rollover_looks_at_as_many_rows_after_many_segments_as_after_few(tmp_path, monkeypatch):
    """Goal: no walk over all segments in plans and handlers. Method: seal, compress, upload and
    evict segment after segment on one thread; count the rows that are asked for, one by one or in
    walks, for segments 151 to 160 and for segments 451 to 460."""
    looked = [0]
    get, rows = Segments.__getitem__, Index.rows

    def counting_get(self, segment_id):
        looked[0] += 1
        return get(self, segment_id)

    def counting_rows(self, first=0):
        for row in rows(self, first):
            looked[0] += 1
            yield row

    monkeypatch.setattr(Segments, "__getitem__", counting_get)
    monkeypatch.setattr(Index, "rows", counting_rows)
    counts = []
    with without_workers(monkeypatch, tmp_path / "r", config=CONFIG) as manager:
        coordinator, log = manager._coordinator, manager.stream("s")

        def one_segment() -> None:
            try:
                log.append_nowait(bytes(1000))
            except aof2.WouldBlock:
                coordinator.poll()
                log.append_nowait(bytes(1000))
            log._instance.writer.end_segment()
            coordinator.kick()
            coordinator.poll()

        for segments in (150, 10, 290, 10):
            looked[0] = 0
            for _ in range(segments):
                one_segment()
            counts.append(looked[0])
        assert len(log.segments()) == 460
    _, early, _, late = counts
    assert 0 < late <= early + 20
