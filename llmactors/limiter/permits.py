"""Who has how much open at once. Pure."""


class Permits:
    """The open requests of each key, by id: one that is closed twice, or never was open, changes nothing."""

    def __init__(self) -> None:
        self._open: dict[str, set[str]] = {}

    def __repr__(self) -> str:
        return f"<Permits { ({key: len(ids) for key, ids in self._open.items()}) }>"

    def count(self, key: str) -> int:
        return len(self._open.get(key, ()))

    def open(self, key: str, request_id: str) -> None:
        self._open.setdefault(key, set()).add(request_id)

    def close(self, key: str, request_id: str) -> None:
        ids = self._open.get(key, set())
        ids.discard(request_id)
        if not ids:
            self._open.pop(key, None)
