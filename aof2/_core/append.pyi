from collections.abc import Iterable
from types import EllipsisType

from typing_extensions import Buffer

from aof2._core.durability import Durability

class Appender(Durability):
    def append(
        self,
        payload: Buffer,
        *,
        ext_id: int | None = None,
        durable: bool = False,
        timeout: float | EllipsisType | None = ...,
    ) -> int: ...
    def append_nowait(self, payload: Buffer, *, ext_id: int | None = None) -> int: ...
    def append_many(
        self,
        payloads: Iterable[Buffer],
        *,
        ext_ids: Iterable[int] | None = None,
        durable: bool = False,
        timeout: float | EllipsisType | None = ...,
    ) -> range: ...
    def append_many_nowait(
        self, payloads: Iterable[Buffer], *, ext_ids: Iterable[int] | None = None
    ) -> range: ...
    def append_packed(
        self,
        data: Buffer,
        ends: Buffer,
        *,
        ext_ids: Iterable[int] | None = None,
        durable: bool = False,
        timeout: float | EllipsisType | None = ...,
    ) -> range: ...
    def append_packed_nowait(
        self, data: Buffer, ends: Buffer, *, ext_ids: Iterable[int] | None = None
    ) -> range: ...
    def end_intake(self) -> None: ...
    def has_room(self, frame_bytes: int) -> bool: ...
    @property
    def spare_bytes(self) -> int: ...
    @property
    def ring_bytes(self) -> int: ...
