"""Workers that look at the same queues at the same time load different models."""

from trio import sleep
from trio.testing import MockClock

from llmactors.actors import Actor, ActorSpec
from llmactors.backends.directory import ModelDirectory
from llmactors.backends.residency import Residency
from llmactors.ledger import MemoryLedger
from llmactors.model_pool.actor import ModelPoolActor
from llmactors.model_pool.load_log import LoadLog
from llmactors.model_pool.member import PoolMember
from llmactors.model_pool.model import PoolRules
from llmactors.model_pool.others import NoOtherWorkers
from llmactors.telemetry import Metrics
from llmactors.testing.ledger_suite import request


class Refusing(NoOtherWorkers):
    """Other workers, which have reserved some models."""

    def __init__(self, taken: str) -> None:
        self._taken = taken
        self.asked: list[str] = []

    async def reserve(self, model: str, for_s: float) -> bool:
        self.asked.append(model)
        return model not in self._taken


def _never_started() -> Actor:
    raise NotImplementedError


async def test_no_model_is_loaded_without_a_reservation(autojump_clock: MockClock) -> None:
    ledger, others = MemoryLedger(), Refusing("ab")
    members = [
        PoolMember(name, Residency(name), ActorSpec(name, _never_started).ref, lambda: 1, need_bytes=1)
        for name in "abc"
    ]
    pool = ModelPoolActor(
        members,
        PoolRules(memory_bytes=1),
        node="n",
        ledger=ledger,
        directory=ModelDirectory(("a", "b", "c")),
        others=others,
        load_log=LoadLog(Metrics()),
    )
    for member in members:
        await ledger.submit(request(f"for {member.name}", model=member.name))
        await sleep(1)
    await pool._look()
    assert others.asked == ["a", "b", "c"]
    assert [member.name for member in members if member.residency.wanted] == ["c"]
