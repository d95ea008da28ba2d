"""The simulated backend with a record of what it was given and what it did: to see that work stops, or never begins."""

from collections import defaultdict

import attrs
import trio

from llmactors.backends.base import Job, Output
from llmactors.backends.mock.backend import Key, MockBackend, MockSettings
from llmactors.system.model_actors import ServedModel


@attrs.define
class Watch:
    """What one model's backends did, by request id; times on Trio's clock."""

    admitted: list[str] = attrs.field(factory=list)
    """Requests that a backend was given, in order."""
    holding: set[str] = attrs.field(factory=set)
    """Those that have a slot now."""
    made_at: dict[str, list[float]] = attrs.field(factory=lambda: defaultdict(list))
    """When each token was made."""
    left_at: dict[str, float] = attrs.field(factory=dict)
    """When each lost its slot."""

    def made_after(self, request_id: str, moment: float) -> int:
        """How many tokens were made of a request after `moment`."""
        return sum(made > moment for made in self.made_at[request_id])


class WatchedMock(MockBackend):
    """Writes into `watch` what it does."""

    def __init__(self, settings: MockSettings, watch: Watch) -> None:
        super().__init__(settings)
        self._watch = watch

    async def admit(self, job: Job) -> None:
        await super().admit(job)
        self._watch.admitted.append(job.key[0])
        self._watch.holding.add(job.key[0])

    async def step(self) -> list[Output]:
        outputs = await super().step()
        now = trio.current_time()
        for output in outputs:
            self._watch.made_at[output.key[0]] += [now] * len(output.deltas)
        return outputs

    def evict(self, key: Key) -> None:
        super().evict(key)
        if key[0] in self._watch.holding:
            self._watch.holding.discard(key[0])
            self._watch.left_at[key[0]] = trio.current_time()


def watched_model(options: str = "", name: str = "mock") -> tuple[ServedModel, Watch]:
    """The simulated backend as `mock:OPTIONS` gives it, and the record of what it does."""
    settings, watch = MockSettings.parse(options), Watch()
    return ServedModel(name, lambda: WatchedMock(settings, watch)), watch
