from aof2._core.directory import Directory

class StretchReader:
    def __init__(self, directory: Directory, name: str) -> None: ...
