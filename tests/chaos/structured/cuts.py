"""What the ledger in Redis says about running and ended requests."""

import attrs
import redis

from llmactors.redislink.names import LedgerKey, RedisNames


@attrs.frozen
class Running:
    """A running request."""

    epoch: int
    tokens: int
    """The length of its log."""


@attrs.frozen
class Ended:
    """An ended request."""

    attempts: int
    """How many workers claimed it."""
    tokens: int


class LedgerView:
    """Reads the ledger of a cluster, past all nodes."""

    def __init__(self, client: "redis.Redis", namespace: str) -> None:
        self._client = client
        self._names = RedisNames(namespace)

    def running(self) -> dict[str, Running]:
        """The running requests by their ids. Requests of a dead worker are among them until its lease ends."""
        found: dict[str, Running] = {}
        for name in self._client.scan_iter(match=self._names.ledger(LedgerKey.LIVE, "*"), count=1000):
            for key, value in self._client.hgetall(name).items():
                if request := _text(key):
                    epoch, tokens, *_ = _text(value).split(" ")
                    now = Running(int(epoch), int(tokens))
                    if request not in found or found[request].epoch < now.epoch:
                        found[request] = now
        return found

    def ended(self, request: str) -> Ended:
        """An ended request whose log is still kept."""
        name = self._names.ledger(LedgerKey.REQUEST, request)
        attempts, tokens = map(_text, self._client.hmget(name, "at", "n"))
        return Ended(int(attempts), int(tokens))


def _text(value: bytes | str | None) -> str:
    """What redis-py returned, which has no more exact type."""
    return value.decode() if isinstance(value, bytes) else value or ""
