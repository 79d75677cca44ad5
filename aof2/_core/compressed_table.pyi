class WarmTable:
    path: str
