"""The actor that has the models of a worker loaded and unloaded, by the requests that wait for them.

What must survive a crash of this actor is in the residencies and the members, which the wiring makes. The actor
compares again and again which models are in memory with the plan, so that it repeats a message that was lost.
"""

import contextlib
from collections.abc import Callable, Sequence

import structlog
import trio

from llmactors.actors import Actor, ActorDied, Context, MailboxFull
from llmactors.backends.directory import ModelDirectory, ModelStatus
from llmactors.backends.messages import Load
from llmactors.backends.residency import ResidencyPhase
from llmactors.errors import BackendFailed, ModelError, Unavailable
from llmactors.ledger import Ledger, ModelDemand
from llmactors.model_pool.budget import gib
from llmactors.model_pool.load_log import LoadLog
from llmactors.model_pool.member import PoolMember
from llmactors.model_pool.model import ModelView, PoolRules
from llmactors.model_pool.others import OtherWorkers
from llmactors.model_pool.plan import PoolPlan, plan_changes
from llmactors.model_pool.refusing import end_waiting
from llmactors.model_pool.states import DEFAULT_BYTES_PER_S, TRIES, load_estimate_s, retry_at, shown_status

log = structlog.get_logger("llmactors.models")

_LOOK_EVERY_S = 0.5
_LOOK_AT_REST_S = 5.0
"""The time between two looks while no model is in memory and nothing waits. News of a request has the pool look at
once; a look by time finds requests whose news was lost."""
_LEAST_PAUSE_S = 0.05
"""News of many requests come together, and one look is enough for all of them."""
_CLASS_WEIGHT = 4.0
"""A second of waiting in one priority class counts as so many seconds in the next less urgent class."""
_NORMAL_CLASS = 1
_RESERVED_S = 3.0
"""For how long another worker's reservation of a load counts. After that, its record shows the load."""


class ModelPoolActor(Actor):
    """Loads the models of `members` when requests wait for them, within the memory and by the rules of `rules`.

    Args:
        members: The models that are loaded on demand.
        rules: The memory that these models share, and how they take turns.
        node: The name of this node, which no other node has.
        ledger: Where requests wait.
        directory: Is told the state of each model that is not in memory.
        others: What is known of the models of other workers.
        load_log: Is told of all loads.
        takes_work: Returns whether the node takes work. While the node takes none, nothing is loaded or unloaded.
    """

    def __init__(
        self,
        members: Sequence[PoolMember],
        rules: PoolRules,
        *,
        node: str,
        ledger: Ledger,
        directory: ModelDirectory,
        others: OtherWorkers,
        load_log: LoadLog,
        takes_work: Callable[[], bool] = lambda: True,
    ) -> None:
        self._members = {member.name: member for member in members}
        self._rules = rules
        self._node = node
        self._ledger = ledger
        self._directory = directory
        self._others = others
        self._load_log = load_log
        self._takes_work = takes_work
        self._changed = trio.Event()
        self._left_to_others: dict[str, float] = {}
        """Models whose load another worker has reserved, each with the time at which the reservation ends."""

    def __repr__(self) -> str:
        resident = [name for name, each in self._members.items() if each.residency.phase is not ResidencyPhase.UNLOADED]
        return f"<ModelPoolActor {len(resident)} of {len(self._members)} models in memory: {', '.join(resident)}>"

    async def on_start(self, context: Context) -> None:
        self._context = context
        for member in self._members.values():
            member.residency.on_change = self._note_change
            member.is_fetching = False  # a download ends with the incarnation that began it
        self._show(trio.current_time())
        context.spawn(self._look_for_ever)

    def _note_change(self) -> None:
        self._changed.set()

    async def _look_for_ever(self) -> None:
        while True:
            self._changed = trio.Event()
            rests = False
            try:
                rests = await self._look()
            except Unavailable:
                self._show(trio.current_time())  # while the ledger is away, nobody knows what waits
            await trio.sleep(_LEAST_PAUSE_S)
            with trio.move_on_after(_LOOK_AT_REST_S if rests else _LOOK_EVERY_S):
                await self._changed.wait()

    async def _look(self) -> bool:
        """Has models loaded and unloaded. Returns whether there is nothing to do until a request comes."""
        if not self._takes_work():
            return False
        demand = await self._ledger.demand([*self._members])
        now = trio.current_time()
        views = {name: self._view(member, demand, now) for name, member in self._members.items()}
        for name, view in views.items():
            if view.waiting and self._members[name].need_bytes is None and view.retry_at <= now:
                self._fetch_soon(self._members[name])
        plan = self._plan(views, now)
        asked: set[str] = set()
        while new := [name for name in (*plan.load, *plan.room_for) if name not in asked]:
            asked.update(new)
            if not all([await self._reserve(name, now) for name in new]):
                plan = self._plan({name: self._view(each, demand, now) for name, each in self._members.items()}, now)
        self._carry_out(plan, views)
        self._show(now)
        for name, view in views.items():
            if view.waiting and not self._is_unknown(name) and self._is_hopeless(self._members[name]):
                await self._end_waiting(self._members[name])
        return all(not views[name].waiting and member.rests for name, member in self._members.items())

    def _view(self, member: PoolMember, demand: Sequence[ModelDemand], now: float) -> ModelView:
        residency, name = member.residency, member.name
        mine = [each for each in demand if each.model == name]
        running, waiting = self._directory.running[name], sum(each.waiting for each in mine)
        if not waiting and not residency.loads and self._is_unknown(name):
            waiting = 1  # nobody can ask for a model before a load has shown what the model can do
        if running or waiting:
            member.used_at = now
        return ModelView(
            phase=residency.phase,
            wanted=residency.wanted,
            since=residency.since,
            load_s=residency.load_s or 0.0,
            used_at=max(member.used_at, residency.since),
            running=running,
            waiting=waiting,
            missed_s=max((_missed_s(each, now - residency.since) for each in mine), default=0.0),
            retry_at=retry_at(residency),
            elsewhere=name in self._others.serving() or self._left_to_others.get(name, now) > now,
        )

    def _plan(self, views: dict[str, ModelView], now: float) -> PoolPlan:
        models = {name: model for name, member in self._members.items() if (model := member.model) is not None}
        fitting = {name: model for name, model in models.items() if model.need_bytes <= self._rules.memory_bytes}
        return plan_changes(fitting, {name: views[name] for name in fitting}, self._rules, now)

    def _is_unknown(self, name: str) -> bool:
        """Whether nobody knows what a model can do."""
        status = self._directory.get(name)
        return status is None or status.capabilities is None

    async def _reserve(self, name: str, now: float) -> bool:
        """Whether this worker is the one that loads a model now."""
        if await self._others.reserve(name, _RESERVED_S):
            return True
        self._left_to_others[name] = now + _RESERVED_S
        return False

    def _carry_out(self, plan: PoolPlan, views: dict[str, ModelView]) -> None:
        for name in plan.load:
            view = views[name]
            log.info(
                "a model is loaded because requests wait for it",
                model=name,
                waiting=view.waiting,
                missed_s=round(view.missed_s, 1),
                need_mib=round((self._members[name].need_bytes or 0) / 2**20),
            )
            self._members[name].residency.want(wanted=True)
        for name in plan.unload:
            idle = views[name].is_idle
            log.info("a model is to be unloaded", model=name, idle=idle, to_make_room_for=[*plan.room_for])
            self._members[name].residency.want(wanted=False)
        for name in plan.keep:
            self._members[name].residency.want(wanted=True)
        for member in self._members.values():
            residency = member.residency
            if residency.wanted and residency.phase is ResidencyPhase.UNLOADED:
                with contextlib.suppress(MailboxFull, ActorDied):  # the next look sends the message again
                    member.backend.tell_nowait(Load())
            elif not residency.wanted and residency.phase is ResidencyPhase.LOADED:
                residency.on_wanted()

    # What cannot be loaded.

    def _is_hopeless(self, member: PoolMember) -> bool:
        """Whether the requests that wait for a model are to be ended."""
        residency = member.residency
        if residency.phase is not ResidencyPhase.UNLOADED or self._others.may_serve(member.name):
            return False
        if (member.need_bytes or 0) > self._rules.memory_bytes:
            return True
        return residency.failures >= TRIES and residency.failed_at > member.ended_for

    async def _end_waiting(self, member: PoolMember) -> None:
        residency = member.residency
        member.ended_for = residency.failed_at
        error = BackendFailed(f"the model {member.name} could not be loaded: {residency.error}")
        ended = await end_waiting(self._ledger, self._node, member.name, error)
        log.error(
            "the requests for a model that cannot be loaded were ended",
            model=member.name,
            requests=ended,
            reason=residency.error,
        )

    # Downloads.

    def _fetch_soon(self, member: PoolMember) -> None:
        if not member.is_fetching:
            member.is_fetching = True
            self._context.spawn(self._fetch, member)

    async def _fetch(self, member: PoolMember) -> None:
        """Downloads the file of a model, so that the memory that the model needs is known."""
        try:
            if member.fetch is not None:
                await member.fetch()
            member.need_bytes = await trio.to_thread.run_sync(member.measure)
            problem = self._unfit(member.need_bytes)
        except ModelError as error:
            problem = error.message
        if problem:
            member.residency.load_failed(problem)
        member.is_fetching = False
        self._note_change()

    def _unfit(self, need_bytes: int | None) -> str:
        """Why a model whose file was downloaded cannot be loaded; empty where it can."""
        if need_bytes is None:
            return "the model's file was downloaded and is not there"
        return too_large(need_bytes, self._rules.memory_bytes) if need_bytes > self._rules.memory_bytes else ""

    # What others see.

    def _show(self, now: float) -> None:
        bytes_per_s = self._bytes_per_s()
        for name, member in self._members.items():
            known = self._directory.get(name) or ModelStatus()
            load_s = load_estimate_s(member.residency, member.need_bytes or 0, bytes_per_s)
            self._load_log.look(member, load_s, now)
            self._directory.put(name, shown_status(known, member.residency, load_s, now))

    def _bytes_per_s(self) -> float:
        """How fast the models of this worker have loaded."""
        loaded = [
            (member.need_bytes, member.residency.load_s)
            for member in self._members.values()
            if member.need_bytes and member.residency.load_s
        ]
        return sum(need for need, _ in loaded) / sum(load_s for _, load_s in loaded) if loaded else DEFAULT_BYTES_PER_S


def too_large(need_bytes: int, memory_bytes: int) -> str:
    """Why a model can never be loaded."""
    return f"it needs {gib(need_bytes)} of memory, and `model_memory` leaves {gib(memory_bytes)}"


def _missed_s(demand: ModelDemand, absent_s: float) -> float:
    return float(min(demand.oldest_s, absent_s) * _CLASS_WEIGHT ** (_NORMAL_CLASS - demand.priority))
