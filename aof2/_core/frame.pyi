from typing_extensions import Buffer

def scan_tail(
    data: Buffer, *, salt: int, position: int = 8192, ordinal: int = 0
) -> tuple[int, int]: ...
