"""The simulated backend with a record of its work, for tests that work stops or never begins."""

from collections import defaultdict

import attrs
import trio

from llmactors.backends.base import Job, Output
from llmactors.backends.build import ServedModel
from llmactors.backends.mock.backend import Key, MockBackend, MockSettings


@attrs.define
class Watch:
    """What the backends of one model did, by request id. Times are those of Trio's clock."""

    admitted: list[str] = attrs.field(factory=list)
    """The requests that a backend admitted, in order."""
    holding: set[str] = attrs.field(factory=set)
    """The requests that have a slot now."""
    made_at: dict[str, list[float]] = attrs.field(factory=lambda: defaultdict(list))
    """When each token was made."""
    left_at: dict[str, float] = attrs.field(factory=dict)
    """When each request lost its slot."""

    def made_after(self, request_id: str, moment: float) -> int:
        """How many tokens of a request were made after `moment`."""
        return sum(made > moment for made in self.made_at[request_id])


class WatchedMock(MockBackend):
    """A mock backend that records its work in `watch`."""

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
    """The model that `--model mock:OPTIONS` serves, and the record of its work."""
    settings, watch = MockSettings.parse(options), Watch()
    return ServedModel(name, lambda: WatchedMock(settings, watch)), watch
