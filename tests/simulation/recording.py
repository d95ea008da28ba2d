"""What a recording of MONITOR shows of bounds.

At no moment may a worker hold more than its slots, or a tenant more than its permits. Behind its terminal event a log
gets nothing more.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from llmactors.redislink.names import LedgerKey, RedisNames

_PART = re.compile(rb'"((?:[^"\\]|\\.)*)"')
_NAMES = RedisNames("main")
_HELD = _NAMES.ledger(LedgerKey.HELD, "").encode()
_PERMITS = _NAMES.ledger(LedgerKey.LIMIT, "concurrent").encode()
_LOG = _NAMES.ledger(LedgerKey.LOG, "").encode()


def read_bounds(path: Path, slots: int, permits: int) -> list[str]:  # noqa: C901 - one pass over all lines
    """A sentence for each bound that was exceeded. `permits` is the most of any tenant."""
    held: dict[bytes, set[bytes]] = {}
    ended: set[bytes] = set()
    found: dict[str, None] = {}
    with path.open("rb") as lines:
        for line in lines:
            if b" lua] " not in line[:60] or not (_HELD in line or _PERMITS in line or _LOG in line):
                continue
            command, *parts = _PART.findall(line)
            match command:
                case b"ZADD":
                    members = held.setdefault(parts[0], set())
                    members.add(parts[2])
                    most = slots if parts[0].startswith(_HELD) else permits
                    if len(members) > most and parts[0].startswith((_HELD, _PERMITS)):
                        found[f"{parts[0].decode()} had more than {most} members"] = None
                case b"ZREM":
                    held.get(parts[0], set()).difference_update(parts[1:])
                case b"DEL":
                    for name in parts:
                        held.pop(name, None)
                        ended.discard(name)
                case b"XADD" if parts[0].startswith(_LOG):
                    if parts[0] in ended:
                        found[f"{parts[0].decode()} was written behind its end"] = None
                    if parts[2] == b"e":
                        ended.add(parts[0])
    return list(found)


def counts_of(found: Mapping[bytes, bytes]) -> dict[str, int]:
    """The counters of the ledger, by name."""
    return {name.decode(): int(value) for name, value in found.items() if value.lstrip(b"-").isdigit()}
