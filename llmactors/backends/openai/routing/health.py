"""Which upstreams get requests: shows their state, logs each change, and asks silent upstreams whether they work.

An upstream is asked for its list of models, which is free of charge. Without that question, an upstream that is down or
refuses the key would count as ready until a request fails. And an upstream that works again would get no request as
long as a load balancer sends none to this node, because the node is not ready.
"""

import random
from collections.abc import Sequence

import attrs
import structlog
import trio

from llmactors.backends.base import UpstreamState
from llmactors.backends.openai.requests.upstream import Upstream
from llmactors.backends.openai.routing.balance import Balance
from llmactors.backends.openai.routing.circuit import CircuitState
from llmactors.backends.openai.routing.faults import FaultKind, UpstreamFault
from llmactors.errors import BackendFailed

log = structlog.get_logger("llmactors.backends.openai")

_PROBE_S = 5.0
"""How long an upstream may take to list its models."""
_TELLING = {FaultKind.KEY, FaultKind.UNREACHABLE, FaultKind.ERROR, FaultKind.CUT, FaultKind.SILENT}
"""The faults that say something about requests. Not every upstream lists its models."""


@attrs.define
class UpstreamHealth:
    """The health of the upstreams of one model.

    Args:
        balance: The circuits of the upstreams, which learn what a question finds.
        every_s: An upstream that has answered nothing for this long is asked; 0 for never.
        rng: Varies how long a circuit stays open.
    """

    _balance: Balance
    _every_s: float
    _rng: random.Random
    _logged_open: dict[int, float] = attrs.field(factory=dict, init=False)
    """The upstreams that get no requests, as far as the log says, and since when."""

    def states(self) -> list[UpstreamState]:
        """The state of each upstream. An upstream whose circuit is open is in trouble."""
        balance = self._balance
        return [
            UpstreamState(
                one.url,
                f"{one.url}: {counters.last_fault or 'it failed'}" if self._is_open(place) else "",
                balance.circuits[place].state is CircuitState.TRIAL,
                counters.tries,
                counters.hedges,
                counters.failovers,
            )
            for place, (one, counters) in enumerate(zip(balance.upstreams, balance.counters, strict=True))
        ]

    def log_changes(self) -> None:
        """Logs which upstreams get no requests any more, and which get requests again."""
        for place, one in enumerate(self._balance.upstreams):
            if self._is_open(place) == (place in self._logged_open):
                continue
            now = trio.current_time()
            if self._is_open(place):
                self._logged_open[place] = now
                for_s = round(self._balance.circuits[place].next_at(0.0) - now, 1)
                reason = self._balance.counters[place].last_fault
                log.warning("an upstream gets no requests for a while", upstream=one.url, reason=reason, for_s=for_s)
            else:
                after_s = round(now - self._logged_open.pop(place), 1)
                log.info("an upstream gets requests again", upstream=one.url, after_s=after_s)

    def due(self, now: float) -> list[int]:
        """The places of the upstreams that are to be asked now."""
        if not self._every_s:
            return []
        return [
            place
            for place, (circuit, counters) in enumerate(
                zip(self._balance.circuits, self._balance.counters, strict=True)
            )
            if circuit.admits(now) and (self._is_open(place) or now >= counters.heard_at + self._every_s)
        ]

    async def ask(self, places: Sequence[int], upstreams: Sequence[Upstream]) -> None:
        """Asks the upstreams at these places at the same time."""
        async with trio.open_nursery() as nursery:
            for place in places:
                nursery.start_soon(self._ask_one, place, upstreams[place])

    async def _ask_one(self, place: int, upstream: Upstream) -> None:
        balance, counters = self._balance, self._balance.counters[place]
        circuit = balance.circuits[place]
        fault: UpstreamFault | None = None
        is_trial = circuit.take(trio.current_time())
        try:
            with trio.fail_after(_PROBE_S):
                await upstream.list_models()
        except trio.TooSlowError:
            fault = UpstreamFault(FaultKind.SILENT, BackendFailed("the upstream did not answer in time"))
        except UpstreamFault as caught:
            fault = caught
        finally:
            if is_trial:
                circuit.give_back()
        if fault is None or fault.kind not in _TELLING:
            counters.heard_at = trio.current_time()
        elif fault.kind is not FaultKind.KEY or not counters.has_answered:  # a key that worked may not list models
            balance.note_fault(place, fault, trio.current_time(), self._rng)

    def _is_open(self, place: int) -> bool:
        return self._balance.circuits[place].state is CircuitState.OPEN
