from collections.abc import Callable

from typing_extensions import Buffer

from aof2._core.directory import Directory

def download(
    fetch: Callable[[int, int], Buffer],
    file_bytes: int,
    target: Directory,
    name: str,
    *,
    key: str,
    stop: Callable[[], bool] | None = None,
) -> None: ...
