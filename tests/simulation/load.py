"""The load of a simulation: constant clients whose requests differ in model, class, conversation and tenant."""

import random
from collections.abc import Callable, Mapping, Sequence

import attrs

from llmactors.access.keys.record import KeyRecord
from llmactors.access.keys.text import NewKey, new_key
from llmactors.limiter.limits import Limits
from llmactors.testing.checker import mock_answer
from llmactors.testing.event_socket import EventSocket
from llmactors.testing.history import RequestHistory
from llmactors.testing.returning_clients import LoadSettings, StreamLoad
from tests.simulation.backend import LONG, chain_answer
from tests.simulation.themes import WorldSettings

LOUD, QUIET = "loud", "quiet"
CONCURRENT_MAX = 5
"""How many requests of the loud tenant may be open."""
_A_DAY = 10**9
_GUILTY = (4, 9)
"""The numbers of the guilty requests, where there are any."""
_LIMITS = {
    LOUD: Limits(concurrent=CONCURRENT_MAX, tokens_per_day=_A_DAY),
    QUIET: Limits(tokens_per_day=_A_DAY),
}


def keys_of_tenants() -> dict[str, NewKey]:
    """A new key of each tenant."""
    return {tenant: new_key() for tenant in _LIMITS}


def record_of(tenant: str, key: NewKey, now: float) -> KeyRecord:
    """What is stored of a tenant's key. Its limits cover all requests, so that all tokens are charged."""
    return KeyRecord(id=key.id, tenant=tenant, hash=key.digest, created=now, best_priority=0, limits=_LIMITS[tenant])


@attrs.frozen
class Choice:
    """How one request differs from the others."""

    model: str
    tokens: int
    priority: int | None = None
    session: str = ""
    tenant: str = ""
    words: str = ""
    """What the prompt ends with."""
    is_guilty: bool = False


def choice_of(world: WorldSettings, seed: int, number: int) -> Choice:
    """What one request of a seed is like."""
    rng = random.Random(f"request {number} of {seed}")
    is_guilty = bool(world.guilty) and number in _GUILTY
    priority = rng.choice((0, 1, 1, 2)) if world.classes else None
    is_long = world.long_texts and rng.random() < 0.5
    tokens = rng.randint(*world.tokens)
    return Choice(
        rng.choice(world.models),
        # A request gives way only after a turn of a second, and a guilty one is not to end before it is given up.
        tokens + 30 * (priority == 2) + 40 * is_guilty,
        priority,
        rng.choice(("", "one", "two", "three")) if world.sessions else "",
        rng.choice((LOUD, LOUD, LOUD, QUIET)) if world.tenants else "",
        world.guilty if is_guilty else LONG if is_long else "",
        is_guilty,
    )


class VariedLoad(StreamLoad):
    """The clients. `keys` has the API key of each tenant; empty where no keys are asked for."""

    def __init__(
        self, urls: Callable[[], Sequence[str]], world: WorldSettings, seed: int, keys: Mapping[str, str]
    ) -> None:
        settings = LoadSettings(
            clients=world.clients,
            replay_share=0.3,
            settle_s=120.0,
            think_s=0.3,
            silence_s=world.patience_s,
            head_s=world.patience_s,
        )
        super().__init__(urls, settings, seed=seed)
        self._world = world
        self._keys = keys

    def choice(self, request: RequestHistory) -> Choice:
        """What a request is like."""
        return choice_of(self._world, self._seed, request.seed)

    def headers(self, request: RequestHistory) -> dict[str, str]:
        """The headers that say whose request it is."""
        return key_header(self._keys, self.choice(request).tenant)

    def answer(self, request: RequestHistory) -> Sequence[str]:
        """The right answer, as far as what the client saw can be it."""
        if self.choice(request).model == "mock":
            found = mock_answer(request)
            assert found is not None
            return found
        texts = {token.seq: token.text for token in request.tokens}
        seen = [texts.get(seq) for seq in range(1, request.max_tokens + 1)]
        return chain_answer(request.prompt, request.seed, seen, request.max_tokens)

    async def _post(self, request: RequestHistory, url: str) -> EventSocket:
        choice = self.choice(request)
        request.max_tokens = choice.tokens
        if choice.words:
            request.prompt += f" {choice.words}"
        body: dict[str, object] = {
            "prompt": request.prompt,
            "seed": request.seed,
            "max_tokens": choice.tokens,
            "model": choice.model,
            "stream": True,
        }
        if choice.priority is not None:
            body["priority"] = choice.priority
        headers = self.headers(request)
        if choice.session:
            headers["X-Session-Id"] = choice.session
        return await EventSocket.open(url, "POST", "/v1/generate", body=body, headers=headers)

    async def _follow(self, request: RequestHistory, url: str) -> EventSocket:
        headers = {"Last-Event-ID": str(request.last_event_id), **self.headers(request)}
        return await EventSocket.open(url, "GET", f"/v1/streams/{request.id}", headers=headers)


def key_header(keys: Mapping[str, str], tenant: str) -> dict[str, str]:
    """The header with the key of a tenant."""
    return {"X-API-Key": keys[tenant]} if tenant else {}
