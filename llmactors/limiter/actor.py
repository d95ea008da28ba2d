"""The actor that admits or refuses callers. Its arithmetic is pure; its memory is handed in and outlives it."""

import attrs
import trio

from llmactors.actors import Actor
from llmactors.limiter.policy import Decision, RatePolicy
from llmactors.limiter.store import LimiterStore


@attrs.frozen
class Admit:
    """Ask this before a request is accepted; the answer is a `Decision`, which counts the request if it admits it."""

    key: str
    """Who is counted."""
    cost: int = 1


class LimiterActor(Actor):
    """One policy for all callers."""

    def __init__(self, policy: RatePolicy, store: LimiterStore) -> None:
        self._policy = policy
        self._store = store

    def __repr__(self) -> str:
        return f"<LimiterActor {self._policy} {self._store!r}>"

    async def on_message(self, message: Admit) -> Decision:
        return self._store.decide(message.key, self._policy, trio.current_time(), message.cost)
