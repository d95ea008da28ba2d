"""The upstreams of a model that another server makes: HTTP servers at simulated addresses, and their faults.

The servers are doubles of vLLM and SGLang, which speak the routes of these servers, over a model whose next token
follows from all tokens before. So an answer that went on in another place shows, wherever the place was.
"""

import itertools
import random
from collections.abc import Callable
from pathlib import Path

import attrs
import trio

from llmactors.backends.build import ServedModel, serve_model
from tests.simulation.faults import Fault
from tests.simulation.listening import Clients, SimulatedAddress
from tests.support.engines.sglang import SglangDouble
from tests.support.engines.vllm import VllmDouble
from tests.support.faulty_upstream import FaultyUpstream, Hit

MODEL = "far"
"""The name of the model here."""
ENGINES = ("vllm", "sglang", "openai")
"""What the backend is told of its upstreams; those of `openai` are doubles of vLLM, which go on behind a text."""
_FIRST_PORT = 30_001
_COUNT = 2
_STEP_S = 0.03
_LATE_S = 1.5
"""How much later the answer of a slow upstream begins: later than a second upstream is asked."""
_REFUSALS = (429, 500, 503)
_OPTIONS = (
    "attempts=40,retries=1,wait_s=60,retry_after_s=1,connect_s=1,first_s=5,silence_s=2,hedge_s=0.6,health_check_s=3,"
    "prompt_tokens_per_s=1e6"
)


@attrs.define(eq=False)
class Upstream:
    """One upstream. Run `run` as a task."""

    port: int
    double: VllmDouble | SglangDouble
    folder: Path
    is_up: bool = True
    is_slow: bool = False
    refusal: int = 0
    """The status with which all requests are refused; 0 for none."""
    asked: int = 0
    _scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    _changed: trio.Event = attrs.field(factory=trio.Event)

    async def run(self) -> None:
        """Serves while the upstream is up, until cancelled."""
        while True:
            if self.is_up:
                with trio.CancelScope() as self._scope:
                    await self._serve()
            else:
                self._changed = trio.Event()
                await self._changed.wait()

    async def _serve(self) -> None:
        address = SimulatedAddress(self.folder, self.port)
        address.listen()
        server = FaultyUpstream([self._answer], models_status=200)
        listener = trio.SocketListener(trio.socket.from_stdlib_socket(address.socket))
        try:
            await trio.serve_listeners(server.serve, [listener])
        finally:
            address.close()

    def set_up(self, *, is_up: bool) -> None:
        """Starts or stops the server."""
        self.is_up = is_up
        if is_up:
            self._changed.set()
        else:
            self._scope.cancel(reason="the upstream is away")

    async def _answer(self, hit: Hit) -> None:
        self.asked += 1
        if self.refusal:
            headers = [("Retry-After", "1")] if self.refusal == 429 else []
            await hit.refuse(self.refusal, *headers)
            return
        if self.is_slow and not hit.target.endswith("tokenize"):
            await trio.sleep(_LATE_S)
        await self.double(hit)


class Upstreams:
    """All upstreams of one model. `rng` chooses what they are."""

    def __init__(self, folder: Path, clients: Clients, slots: int, rng: random.Random) -> None:
        self.engine = rng.choice(ENGINES)
        double = SglangDouble if self.engine == "sglang" else VllmDouble
        self._clients = clients
        self._slots = slots
        self._all = [
            Upstream(port, double(step_s=_STEP_S), folder)
            for port in itertools.islice(itertools.count(_FIRST_PORT), _COUNT)
        ]

    def __repr__(self) -> str:
        return f"<Upstreams of {self.engine}>"

    @property
    def unserved(self) -> frozenset[str]:
        """The kinds of calls that the model cannot answer."""
        # A server of an unknown kind is sent the schema itself, which the double does not follow.
        schemas = {"chat with a schema", "response with a schema"} if self.engine == "openai" else set()
        return frozenset({"vectors", *schemas})

    @property
    def model(self) -> ServedModel:
        """The model that a worker serves."""
        urls = "|".join(f"http://127.0.0.1:{each.port}/v1,model=m" for each in self._all)
        # Only a server that is known goes on in the middle of a call.
        how = "continue=chat" if self.engine == "openai" else f"engine={self.engine},tools=hermes"
        return serve_model(f"{MODEL}=openai:{urls},{how},slots={self._slots},{_OPTIONS}")

    async def run(self) -> None:
        """Serves until cancelled."""
        async with trio.open_nursery() as nursery:
            for each in self._all:
                nursery.start_soon(each.run)

    def effect(self, fault: Fault) -> tuple[Callable[[], None], Callable[[], None]]:
        """What a fault does to one upstream when it begins, and when it ends."""
        upstream = self._all[int(fault.choice * len(self._all)) % len(self._all)]

        def cut() -> None:
            self._clients.cut(upstream.port)

        def go_away() -> None:
            upstream.set_up(is_up=False)
            cut()

        match fault.kind:
            case "cut an upstream":
                return cut, lambda: None
            case "upstream away":
                return go_away, lambda: upstream.set_up(is_up=True)
            case "slow upstream":
                return lambda: setattr(upstream, "is_slow", True), lambda: setattr(upstream, "is_slow", False)
        status = _REFUSALS[int(fault.choice * 1000) % len(_REFUSALS)]
        return lambda: setattr(upstream, "refusal", status), lambda: setattr(upstream, "refusal", 0)
