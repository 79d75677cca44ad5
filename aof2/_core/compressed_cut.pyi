from aof2._core.directory import Directory

class SealedSource:
    path: str
    def __init__(
        self, directory: Directory, name: str, *, frame_bytes: int, group_bytes: int = 4194304
    ) -> None: ...
