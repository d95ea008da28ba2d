"""Many clients at once that act as real ones do, and write down all that they see.

A client asks any gateway for a stream. Where its connection breaks or falls silent it goes to another gateway with
`Last-Event-ID`, again and again, until it has seen the terminal event. What was refused, or may have been, it asks for
anew. It sees the promise broken only if the promise is broken.
"""

import random
import time
from collections.abc import Callable, Sequence

import attrs
import trio

from llmactors.testing.event_socket import CutError, EventSocket, StreamEvent
from llmactors.testing.history import EndSeen, History, RequestHistory
from llmactors.testing.managed_process import poll_until

CUTS = (OSError, CutError, trio.BrokenResourceError, trio.TooSlowError)
"""What a connection that broke looks like here."""


@attrs.frozen(kw_only=True)
class LoadSettings:
    """How clients behave. Times in seconds."""

    clients: int = 64
    max_tokens: int = 64
    model: str | None = None
    requests: int | None = None
    """The load ends by itself once so many have been accepted."""
    prompts: str = "load"
    """What all prompts begin with."""
    head_s: float = 5.0
    """A gateway that has not begun to answer by then is given up."""
    silence_s: float = 5.0
    """A stream that brings nothing for this long is followed through another gateway."""
    backoff_min_s: float = 0.02
    backoff_max_s: float = 0.5
    retry_after_max_s: float = 1.0
    """`Retry-After` is heeded up to this."""
    settle_s: float = 30.0
    """How long after `stop` an accepted request may take to its end. What is open then counts as lost."""
    replay_share: float = 0.05
    """This share of the ended requests is read once more, from the beginning."""
    think_s: float = 0.0
    """At most so long from one request of a client to its next."""


class StreamLoad:
    """Constant load by `settings.clients` clients, from `run` until `stop`. `urls` says where the gateways are now."""

    def __init__(
        self, urls: Callable[[], Sequence[str]], settings: LoadSettings | None = None, *, seed: int = 0
    ) -> None:
        self.history = History()
        self.settings = settings or LoadSettings()
        self._urls = urls
        self._seed = seed
        self._number = 0
        self._stopping = False
        self._scope = trio.CancelScope()

    def __repr__(self) -> str:
        return f"<Load of {self.settings.clients} clients, {self.history!r}>"

    async def run(self) -> None:
        """Until `stop`, and until each accepted request has ended or `settle_s` has passed."""
        with self._scope:
            async with trio.open_nursery() as nursery:
                for number in range(self.settings.clients):
                    nursery.start_soon(self._client, random.Random(f"{self._seed}/{number}"))

    def stop(self) -> None:
        """No new requests from now on. Call it once the faults have stopped and the servers are up."""
        self._stopping = True
        self._scope.deadline = trio.current_time() + self.settings.settle_s

    async def wait_accepted(self, count: int) -> None:
        """Until so many requests have been accepted in all."""
        await poll_until(lambda: len(self.history.requests) >= count)

    def _enough(self) -> bool:
        return self.settings.requests is not None and len(self.history.requests) >= self.settings.requests

    async def _client(self, rng: random.Random) -> None:
        # Spread out, as the clients of a service are.
        await trio.sleep(rng.uniform(0, 0.2))
        while not self._stopping and not self._enough():
            self._number += 1
            number = self._number
            request = RequestHistory(
                f"{self.settings.prompts} {self._seed}/{number}", number, self.settings.max_tokens, time.monotonic()
            )
            again_after_s = await self._request(request, rng)
            await trio.sleep(again_after_s or rng.uniform(0, self.settings.think_s))

    async def _request(self, request: RequestHistory, rng: random.Random) -> float:
        """One request to its end; how long to wait where it was refused."""
        url = rng.choice(self._urls())
        failures = 0
        while not request.ends and not request.gone:
            before = request.last_event_id
            try:
                refused_s = await self._connect(request, url)
            except CUTS as error:
                reason = _reason(error)
                if request.accepted_at is None:
                    self.history.unknown[reason] += 1
                    return rng.uniform(self.settings.backoff_min_s, self.settings.backoff_max_s)
                request.cuts[reason] += 1
                refused_s = 0.0
            if request.accepted_at is None:
                return refused_s * rng.uniform(1.0, 1.2)
            failures = 0 if request.last_event_id > before else failures + 1
            if not request.ends and not request.gone:
                url = self._another(url, rng)
                await trio.sleep(max(self._backoff_s(failures, rng), refused_s))
        if request.ends and rng.random() < self.settings.replay_share:
            await self._replay(request, rng)
        return 0.0

    async def _connect(self, request: RequestHistory, url: str) -> float:
        """One connection, to its end; how long the gateway asks to wait, where it refused."""
        settings = self.settings
        is_new = request.accepted_at is None
        with trio.fail_after(settings.head_s):
            exchange = await (self._post(request, url) if is_new else self._follow(request, url))
        async with exchange:
            if exchange.status != 200:
                return await self._refused(request, exchange, is_new=is_new)
            if is_new:
                request.accepted_at = time.monotonic()
                request.id = exchange.headers.get("x-request-id", "")
                self.history.requests.append(request)
            request.connections += 1
            await self._read(request, exchange)
        return 0.0

    async def _read(self, request: RequestHistory, exchange: EventSocket) -> None:
        """Everything that this connection brings, also what comes after an end."""
        silence_s = self.settings.silence_s
        with trio.fail_after(silence_s) as scope:
            while events := await exchange.events():
                scope.deadline = trio.current_time() + silence_s
                now = time.monotonic()
                for event in events:
                    if _take(request, event, now):
                        raise CutError(f"error event {(event.error or {}).get('code')}")
        if not request.ends:
            raise CutError("a clean end without a terminal event")

    async def _refused(self, request: RequestHistory, exchange: EventSocket, *, is_new: bool) -> float:
        with trio.fail_after(self.settings.head_s):
            answer = None if exchange.status == 204 else await exchange.read_json()
        error = answer.get("error", {}) if isinstance(answer, dict) else {}
        kind = f"{exchange.status} {error.get('code', '')}".strip()
        if is_new:
            self.history.refused[kind] += 1
        else:
            self.history.http_errors[kind] += 1
            if exchange.status in {204, 404, 410}:
                request.gone = exchange.status
        asked = exchange.headers.get("retry-after", "")
        wanted_s = float(asked) if asked.isdigit() else self.settings.backoff_min_s
        return min(wanted_s, self.settings.retry_after_max_s)

    async def _replay(self, request: RequestHistory, rng: random.Random) -> None:
        """Reads the log again. Only what can be read to its end counts: a log may have been deleted by now."""
        for _ in range(3):
            again = RequestHistory(request.prompt, request.seed, request.max_tokens, time.monotonic(), request.id)
            again.accepted_at = request.accepted_at
            try:
                await self._connect(again, rng.choice(self._urls()))
            except CUTS:
                await trio.sleep(self.settings.backoff_max_s)
                continue
            if again.ends:
                request.replay = again
            return

    async def _post(self, request: RequestHistory, url: str) -> EventSocket:
        body: dict[str, object] = {
            "prompt": request.prompt,
            "seed": request.seed,
            "max_tokens": request.max_tokens,
            "stream": True,
        }
        if self.settings.model is not None:
            body |= {"model": self.settings.model, "temperature": 0}
        return await EventSocket.open(url, "POST", "/v1/generate", body=body)

    async def _follow(self, request: RequestHistory, url: str) -> EventSocket:
        headers = {"Last-Event-ID": str(request.last_event_id)}
        return await EventSocket.open(url, "GET", f"/v1/streams/{request.id}", headers=headers)

    def _another(self, url: str, rng: random.Random) -> str:
        urls = self._urls()
        return rng.choice([each for each in urls if each != url] or urls)

    def _backoff_s(self, failures: int, rng: random.Random) -> float:
        most = min(self.settings.backoff_max_s, self.settings.backoff_min_s * 2.0 ** min(failures, 10))
        return rng.uniform(self.settings.backoff_min_s / 2, most)


def _take(request: RequestHistory, event: StreamEvent, now: float) -> bool:
    """Writes an event down; True if it stands in no log, and only says that this connection ends."""
    if event.id != request.id:
        request.foreign += 1
    elif event.name == "token":
        request.add_token(event.seq or 0, event.text, now)
    elif event.seq is None:
        return True
    else:
        tokens = (event.usage or {}).get("completion_tokens")
        request.add_end(EndSeen(event.name, event.seq, now, str((event.error or {}).get("code", "")), tokens))
    return False


def _reason(error: BaseException) -> str:
    match error:
        case CutError():
            return str(error.args[0])
        case trio.TooSlowError():
            return "silence"
        case ConnectionRefusedError():
            return "connection refused"
        case ConnectionResetError():
            return "reset"
        case _:
            return type(error).__name__
