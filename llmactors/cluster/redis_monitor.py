"""The actor that notices when Redis stops and begins to serve this node."""

from collections.abc import Awaitable, Callable

import attrs
import structlog
import trio

from llmactors.actors import Actor, Context
from llmactors.errors import Unavailable
from llmactors.redislink.errors import OutcomeUnknown, ReplyError, reason_of
from llmactors.redislink.link import RedisLink
from llmactors.redislink.outage import Outage, Problem, Said
from llmactors.redislink.server_settings import wrong_settings

log = structlog.get_logger("llmactors.redis")

DIRECTORY = "directory"
"""The name of the link for nodes and keys. All other links are those of ledgers."""
_PROBE_EVERY_S = 1.0
_LEAST_PAUSE_S = 0.1
_CHECK_SETTINGS_EVERY_S = 60.0


@attrs.frozen
class WatchedLink:
    """One link of the node, and a call that succeeds if the link can serve."""

    name: str
    link: RedisLink
    probe: Callable[[], Awaitable[object]]


@attrs.define
class RedisHealth:
    """What the monitor has found. The object outlives the actor's incarnations."""

    outage: Outage = attrs.field(factory=Outage)
    wrong_settings: dict[str, str] = attrs.field(factory=dict)
    """What is wrong with each of the server's settings, by its name."""

    def problem_of(self, link: str) -> Problem | None:
        """Why a link cannot serve; None if it can, and before the first probe."""
        return self.outage.problems.get(link)


class RedisMonitorActor(Actor):
    """Probes each link every second, and at once after a failure. Logs each outage, its reason and its end.

    The settings of the server are read after each connect of the first link, and every minute. `observe` is called with
    a link's name and the seconds that a probe took, after each probe that had an answer.
    """

    def __init__(
        self,
        links: tuple[WatchedLink, ...],
        health: RedisHealth,
        observe: Callable[[str, float], None] = lambda _link, _seconds: None,
    ) -> None:
        self._links = links
        self._health = health
        self._observe = observe

    def __repr__(self) -> str:
        return f"<RedisMonitorActor {self._health.outage.problems or 'no outage'}>"

    async def on_start(self, context: Context) -> None:
        for watched in self._links:
            context.spawn(self._watch, watched)
        context.spawn(self._watch_settings, self._links[0].link)

    async def _watch(self, watched: WatchedLink) -> None:
        while True:
            begun = trio.current_time()
            problem = await _problem_of(watched)
            if problem is None:
                self._observe(watched.name, trio.current_time() - begun)
            self._note(watched.name, problem)
            await trio.sleep(_LEAST_PAUSE_S)
            with trio.move_on_after(_PROBE_EVERY_S):
                await watched.link.wait_trouble()

    def _note(self, link: str, problem: Problem | None) -> None:
        outage, now = self._health.outage, trio.current_time()
        said = outage.note(link, problem, now)
        if said is None:
            return
        lasted_s = round(outage.lasted_s(now), 1)
        if said is Said.ENDED:
            log.info("Redis is available again", after_s=lasted_s)
            return
        [first, *_] = outage.problems.values()
        if said is Said.BEGAN:
            ledgers = {watched.name for watched in self._links if watched.name != DIRECTORY}
            if ledgers <= outage.problems.keys() or len(ledgers) == 1:
                text = "Redis is unavailable; until it is back, new requests get 503 and running ones wait"
            else:
                text = "a Redis is unavailable; until it is back its requests wait, and the others go on"
            log.error(text, links=", ".join(outage.problems), reason=first.reason, kind=first.kind)
        else:
            log.warning("Redis is still unavailable", reason=first.reason, kind=first.kind, for_s=lasted_s)

    async def _watch_settings(self, link: RedisLink) -> None:
        while True:
            await link.wait_up()
            connects = link.statistics().connects
            try:
                wrong = await wrong_settings(link.ask)
                if link.is_clustered:
                    wrong.pop("cluster-enabled", None)
                self._note_settings(wrong)
            except Unavailable:
                await trio.sleep(_LEAST_PAUSE_S)
                continue
            with trio.move_on_after(_CHECK_SETTINGS_EVERY_S):
                while link.statistics().connects == connects:
                    await link.wait_trouble()
                    await link.wait_up()

    def _note_settings(self, found: dict[str, str]) -> None:
        before, self._health.wrong_settings = self._health.wrong_settings, found
        for name, sentence in found.items():
            if before.get(name) != sentence:
                log.warning("a setting of Redis is wrong", setting=name, problem=sentence)
        for name in before.keys() - found.keys():
            log.info("a setting of Redis is right again", setting=name)


async def _problem_of(watched: WatchedLink) -> Problem | None:
    try:
        await watched.probe()
    except ReplyError as error:
        return Problem(error.kind, reason_of(error))
    except Unavailable as error:
        found = watched.link.statistics().last_error
        lost = isinstance(error, OutcomeUnknown) or not watched.link.is_up
        return Problem("connection", found if lost and found else error.message)
    return None
