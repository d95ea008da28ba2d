"""Which call of an answer a part of a tool call belongs to. Pure.

OpenAI gives each part an `index`. Some servers give none, give 0 to every call, or repeat id and name in each part.
"""

import attrs

MAX_CALLS = 1024


class TooManyCalls(ValueError):
    """The answer has more than `MAX_CALLS` calls of tools."""


@attrs.define
class _Call:
    id: str
    name: str


class CallPlaces:
    """The calls of one answer."""

    def __init__(self) -> None:
        self._calls: list[_Call] = []
        self._by_index: dict[int, int] = {}

    def __repr__(self) -> str:
        return f"<CallPlaces {len(self._calls)} calls>"

    def place(self, index: int | None, call_id: str, name: str) -> tuple[int, str, str]:
        """The place of the call from 0, and the id and name that are new with this part. Raises `TooManyCalls`."""
        at = self._find(index, call_id, name)
        if at is None:
            at = len(self._calls)
            if at == MAX_CALLS:
                raise TooManyCalls(f"the answer has more than {MAX_CALLS} calls of tools")
            self._calls.append(_Call("", ""))
        if index is not None:
            self._by_index[index] = at
        known = self._calls[at]
        new_id, new_name = "" if known.id else call_id, "" if known.name else name
        known.id, known.name = known.id or call_id, known.name or name
        return at, new_id, new_name

    def _find(self, index: int | None, call_id: str, name: str) -> int | None:
        """The place of a call that has begun; None where the part begins a call."""
        if index is None:
            if call_id:
                return next((at for at, call in enumerate(self._calls) if call.id == call_id), None)
            return None if name or not self._calls else len(self._calls) - 1
        at = self._by_index.get(index)
        if at is not None and call_id and name and self._calls[at].id and self._calls[at].id != call_id:
            return None
        return at
