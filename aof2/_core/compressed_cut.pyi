class SealedSource:
    path: str
