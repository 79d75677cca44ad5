def find_next(
    data: bytes | bytearray | memoryview,
    *,
    salt: int,
    position: int = ...,
    ordinal_min: int = 0,
) -> tuple[int, int, int, int] | None: ...
