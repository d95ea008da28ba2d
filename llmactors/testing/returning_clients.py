"""Many clients that act as real clients do, and record all that they see.

A client asks any gateway for a stream. If the connection breaks or falls silent, the client reconnects to another
gateway with `Last-Event-ID`, until it has seen the terminal event. If a request was refused, or its outcome is unknown,
the client sends a new request. So a client never causes the faults that `checker` looks for.
"""

import random
import time
from collections.abc import Callable, Sequence

import attrs
import trio

from llmactors.testing.event_socket import CutError, EventSocket, StreamEvent
from llmactors.testing.history import EndSeen, History, RequestHistory
from llmactors.testing.managed_process import poll_until

CUTS = (CutError, trio.TooSlowError)
"""What a client gets from a connection that breaks or falls silent."""


@attrs.frozen(kw_only=True)
class LoadSettings:
    """How the clients of a load behave."""

    clients: int = 64
    max_tokens: int = 64
    model: str | None = None
    priority: int | None = None
    """The class of all requests; None for the default class."""
    requests: int | None = None
    """The load ends by itself once this many requests have been accepted; None: only `stop` ends the load."""
    api_key: str = ""
    """The API key of all clients; empty for none."""
    prompts: str = "load"
    """The beginning of all prompts."""
    head_s: float = 5.0
    """How long a client waits for the head of an answer before it tries another gateway."""
    silence_s: float = 5.0
    """How long a client waits for the next event before it reconnects through another gateway."""
    backoff_min_s: float = 0.02
    backoff_max_s: float = 0.5
    retry_after_max_s: float = 1.0
    """A client obeys `Retry-After`, but waits no longer than this."""
    settle_s: float = 30.0
    """How long after `stop` an accepted request may run. A request that is still open then counts as lost."""
    replay_share: float = 0.05
    """The share of the ended requests whose log is read once more from its beginning."""
    think_s: float = 0.0
    """The longest pause of a client between two requests."""


class StreamLoad:
    """Constant load by `settings.clients` clients, from `run` until `stop`.

    Args:
        urls: Returns the URLs of the gateways, which may change.
        settings: How the clients behave.
        seed: The choices of the clients follow from this seed.
    """

    def __init__(
        self, urls: Callable[[], Sequence[str]], settings: LoadSettings | None = None, *, seed: int = 0
    ) -> None:
        self.history = History()
        self.settings = settings or LoadSettings()
        self._urls = urls
        self._seed = seed
        self._key = {"X-API-Key": self.settings.api_key} if self.settings.api_key else {}
        self._number = 0
        self._stopping = False
        self._scope = trio.CancelScope()

    def __repr__(self) -> str:
        return f"<StreamLoad of {self.settings.clients} clients, {self.history!r}>"

    async def run(self) -> None:
        """Runs the clients until `stop`, and then until every accepted request has ended or `settle_s` has passed."""
        with self._scope:
            async with trio.open_nursery() as nursery:
                for number in range(self.settings.clients):
                    nursery.start_soon(self._client, random.Random(f"{self._seed}/{number}"))

    def stop(self) -> None:
        """Stops new requests. Call this once the faults are over and the servers are up."""
        self._stopping = True
        self._scope.deadline = trio.current_time() + self.settings.settle_s

    async def wait_accepted(self, count: int) -> None:
        """Waits until `count` requests have been accepted in all."""
        await poll_until(lambda: len(self.history.requests) >= count)

    def _has_enough(self) -> bool:
        return self.settings.requests is not None and len(self.history.requests) >= self.settings.requests

    async def _client(self, rng: random.Random) -> None:
        # The clients do not all begin at the same moment.
        await trio.sleep(rng.uniform(0, 0.2))
        while not self._stopping and not self._has_enough():
            self._number += 1
            number = self._number
            request = RequestHistory(
                f"{self.settings.prompts} {self._seed}/{number}", number, self.settings.max_tokens, time.monotonic()
            )
            again_after_s = await self._request(request, rng)
            await trio.sleep(again_after_s or rng.uniform(0, self.settings.think_s))

    async def _request(self, request: RequestHistory, rng: random.Random) -> float:
        """Reads one request to its end; returns how long to wait if the request was refused."""
        url = rng.choice(self._urls())
        failures = 0
        while not request.ends and not request.gone:
            before = request.last_event_id
            try:
                refused_s = await self._connect(request, url)
            except CUTS as error:
                reason = "silence" if isinstance(error, trio.TooSlowError) else str(error.args[0])
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
        """Reads one connection to its end; returns how long the gateway asks to wait if the request was refused."""
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
        """Records every event of the connection, including events after a terminal event."""
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
        """Reads the log again. Only a whole log counts, since the log may have been deleted by now."""
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
        if self.settings.priority is not None:
            body["priority"] = self.settings.priority
        return await EventSocket.open(url, "POST", "/v1/generate", body=body, headers=self._key)

    async def _follow(self, request: RequestHistory, url: str) -> EventSocket:
        headers = {"Last-Event-ID": str(request.last_event_id), **self._key}
        return await EventSocket.open(url, "GET", f"/v1/streams/{request.id}", headers=headers)

    def _another(self, url: str, rng: random.Random) -> str:
        urls = self._urls()
        return rng.choice([each for each in urls if each != url] or urls)

    def _backoff_s(self, failures: int, rng: random.Random) -> float:
        most = min(self.settings.backoff_max_s, self.settings.backoff_min_s * 2.0 ** min(failures, 10))
        return rng.uniform(self.settings.backoff_min_s / 2, most)


def _take(request: RequestHistory, event: StreamEvent, now: float) -> bool:
    """Records an event; True if the event stands in no log and only says that this connection ends."""
    if event.id != request.id:
        request.foreign += 1
    elif event.name == "token":
        request.add_token(event.seq or 0, event.text, now)
    elif event.name == "queued":
        pass  # tells a waiting client its place, and is in no log
    elif event.seq is None:
        return True
    else:
        tokens = (event.usage or {}).get("completion_tokens")
        request.add_end(EndSeen(event.name, event.seq, now, str((event.error or {}).get("code", "")), tokens))
    return False
