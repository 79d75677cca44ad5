from collections.abc import Iterable
from types import EllipsisType

from typing_extensions import Buffer

class Appender:
    stream: str
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
    def wait_change(self, seen: int, timeout: float | None) -> bool: ...
    def wait_local(
        self, next_offset: int, *, timeout: float | EllipsisType | None = ...
    ) -> None: ...
    def is_durable(self, next_offset: int) -> bool: ...
    @property
    def next_offset(self) -> int: ...
    @property
    def durable_offset(self) -> int: ...
    @property
    def changes(self) -> int: ...
    def announce(self) -> None: ...
