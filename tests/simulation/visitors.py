"""What clients do beside the load: they come and go as readers, cancel, run late, send twice, and flood."""

import random
from collections.abc import Awaitable, Callable, Mapping, Sequence

import attrs
import trio

from llmactors.testing.event_socket import CutError, EventSocket
from llmactors.testing.history import EndSeen, TokenSeen
from llmactors.testing.returning_clients import CUTS
from tests.simulation.backend import STALLS
from tests.simulation.load import LOUD, VariedLoad, key_header
from tests.simulation.themes import WorldSettings

_LATE_TOKENS = 120
_FLOOD = 10
_PATIENCE_S = 5.0
_TASKS = 2


@attrs.define(eq=False)
class Reading:
    """What one connection showed of one stream."""

    what: str
    """What the visitor did: one of `themes.EVERYONE`."""
    prompt: str = ""
    model: str = ""
    id: str = ""
    after: int = 0
    """The seq after which the visitor reads."""
    begun: float = 0.0
    """When the head of the answer arrived."""
    tokens: list[TokenSeen] = attrs.field(factory=list)
    ends: list[EndSeen] = attrs.field(factory=list)
    after_end: int = 0
    """How many events came behind the end."""
    foreign: int = 0
    was_cancelled: bool = False
    """Whether a gateway said that it cancelled the request, which had not ended."""
    deadline_s: float | None = None

    def take(self, name: str, seq: int, text: str, code: str, now: float) -> None:
        self.after_end += bool(self.ends)
        if name == "token":
            self.tokens.append(TokenSeen(seq, text, now))
        else:
            self.ends.append(EndSeen(name, seq, now, code))


class Visitors:
    """Run `run` as a task. `readings` has what they saw, and `twice` the pairs that one key admitted."""

    def __init__(
        self,
        urls: Callable[[], Sequence[str]],
        load: VariedLoad,
        world: WorldSettings,
        seed: int,
        keys: Mapping[str, str],
    ) -> None:
        self.readings: list[Reading] = []
        self.twice: list[tuple[Reading, Reading]] = []
        self.refused = 0
        self._urls = urls
        self._load = load
        self._world = world
        self._seed = seed
        self._keys = keys
        self._number = 0
        self._stopping = False
        self._moves: dict[str, Callable[[random.Random], Awaitable[None]]] = {
            "come and go": self._come_and_go,
            "cancel": self._cancel,
            "run late": self._run_late,
            "send twice": self._send_twice,
            "flood": self._flood,
        }

    def __repr__(self) -> str:
        return f"<Visitors {len(self.readings)} readings>"

    async def run(self) -> None:
        """Visits until `stop`."""
        if not self._world.visitors:
            return
        async with trio.open_nursery() as nursery:
            for number in range(_TASKS):
                nursery.start_soon(self._visit, random.Random(f"visitor {number} of {self._seed}"))

    def stop(self) -> None:
        """Has the visitors leave soon."""
        self._stopping = True

    async def _visit(self, rng: random.Random) -> None:
        while not self._stopping:
            await trio.sleep(rng.uniform(0.05, 0.7))
            try:
                await self._moves[rng.choice(self._world.visitors)](random.Random(rng.getrandbits(64)))
            except* CUTS:
                pass

    # What they do.

    async def _come_and_go(self, rng: random.Random) -> None:
        going = [each for each in self._load.history.requests if each.id and not each.ends and not each.gone]
        if not going:
            return
        request = rng.choice(going)
        choice = self._load.choice(request)
        after = rng.choice((0, rng.randint(0, len(request.tokens)), len(request.tokens)))
        reading = Reading("come and go", request.prompt, choice.model, request.id, after)
        headers = {"Last-Event-ID": str(after), **self._load.headers(request)}
        path = f"/v1/streams/{request.id}"
        await self._read(reading, rng.choice(self._urls()), "GET", path, None, headers, rng.uniform(0.1, 3.0))

    async def _cancel(self, rng: random.Random) -> None:
        """Cancels by a call, or by not listening any more."""
        stalls = rng.random() < 0.5 and "mock" not in self._world.models
        reading = self._reading("cancel", rng, STALLS if stalls else "")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._post, reading, rng, _LATE_TOKENS, _PATIENCE_S)
            await trio.sleep(rng.uniform(0.02, 1.5))
            if reading.id and rng.random() < 0.7:
                url = rng.choice(self._urls())
                path = f"/v1/streams/{reading.id}"
                with trio.fail_after(_PATIENCE_S):
                    exchange = await EventSocket.open(url, "DELETE", path, headers=self._key)
                    async with exchange:
                        answer = await exchange.read_json() if exchange.status == 200 else {}
                reading.was_cancelled = bool((answer or {}).get("cancelled"))
                await trio.sleep(0.5)
            nursery.cancel_scope.cancel(reason="the visitor leaves")

    async def _run_late(self, rng: random.Random) -> None:
        reading = self._reading("run late", rng)
        reading.deadline_s = round(rng.uniform(0.2, 2.0), 3)
        await self._post(reading, rng, _LATE_TOKENS, _PATIENCE_S, {"deadline_ms": round(reading.deadline_s * 1000)})

    async def _send_twice(self, rng: random.Random) -> None:
        one = self._reading("send twice", rng)
        other = attrs.evolve(one, tokens=[], ends=[])
        self.twice.append((one, other))
        key = {"Idempotency-Key": one.prompt.replace(" ", "-")}
        async with trio.open_nursery() as nursery:
            for each in (one, other):
                own = random.Random(rng.getrandbits(64))
                nursery.start_soon(self._post, each, own, 12, _PATIENCE_S, {"seed": 1}, key)

    async def _flood(self, rng: random.Random) -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(_FLOOD):
                own = random.Random(rng.getrandbits(64))
                nursery.start_soon(self._post, self._reading("flood", rng), own, 4, _PATIENCE_S)

    # How they do it.

    @property
    def _key(self) -> dict[str, str]:
        return key_header(self._keys, LOUD if self._world.tenants else "")

    def _reading(self, what: str, rng: random.Random, word: str = "") -> Reading:
        self._number += 1
        models = [each for each in self._world.models if each != "fresh"]
        return Reading(what, f"visit {self._seed}/{self._number} {word}".rstrip(), rng.choice(models))

    async def _post(
        self,
        reading: Reading,
        rng: random.Random,
        tokens: int,
        for_s: float,
        more: Mapping[str, object] = {},
        headers: Mapping[str, str] = {},
    ) -> None:
        body = {"prompt": reading.prompt, "model": reading.model, "max_tokens": tokens, "stream": True, **more}
        if self._world.classes:
            body["priority"] = rng.choice((1, 2))
        url = rng.choice(self._urls())
        try:
            await self._read(reading, url, "POST", "/v1/generate", body, {**self._key, **headers}, for_s)
        except CUTS:
            return

    async def _read(
        self,
        reading: Reading,
        url: str,
        method: str,
        path: str,
        body: object,
        headers: Mapping[str, str],
        for_s: float,
    ) -> None:
        """Reads one answer for so long. Raises `CUTS`."""
        with trio.fail_after(_PATIENCE_S):
            exchange = await EventSocket.open(url, method, path, body=body, headers=dict(headers))
        async with exchange:
            if exchange.status != 200:
                self.refused += 1
                return
            reading.id = exchange.headers.get("x-request-id", "")
            reading.begun = trio.current_time()
            self.readings.append(reading)
            with trio.move_on_after(for_s):
                while events := await exchange.events():
                    now = trio.current_time()
                    for event in events:
                        if event.id != reading.id:
                            reading.foreign += 1
                        elif event.name != "queued":
                            if event.seq is None:
                                raise CutError("the gateway ends the connection")
                            code = str((event.error or {}).get("code", ""))
                            reading.take(event.name, event.seq, event.text, code, now)
