"""Models that load on demand in one process: simulated backends, the real tree and ledger, and virtual time."""

import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock

from llmactors.backends.build import serve_models
from llmactors.backends.directory import ModelState, ModelStatus
from llmactors.backends.mock.oracle import mock_text
from llmactors.config import DeclaredModel, Settings
from llmactors.errors import ConfigError
from llmactors.ledger import ModelDemand, ReleaseHow, SubmitOutcome
from llmactors.ledger.memory import MemoryLedger
from llmactors.messages import Failed, Finished, GenerateRequest
from llmactors.system.serving_only import ServingOnly, serving_only

Sources = Mapping[str, str | DeclaredModel]
SLOW = "mock:step_ms=100,slots=2,load_s=2"


class Drill(Exception):
    """An injected crash."""


@attrs.define(eq=False)
class Pool:
    """A running tree whose models are loaded on demand."""

    serving: ServingOnly
    nursery: trio.Nursery
    texts: dict[str, str] = attrs.field(factory=dict)
    ends: dict[str, Failed | Finished] = attrs.field(factory=dict)
    loads: dict[str, int] = attrs.field(factory=dict)

    def status(self, model: str) -> ModelStatus:
        found = self.serving.directory.get(model)
        assert found is not None
        return found

    def crash(self, path: str) -> None:
        self.serving.tree.actor(f"node/serving/{path}").crash(Drill(path))

    def incarnation(self, path: str) -> int:
        return self.serving.tree.actor(f"node/serving/{path}").spec.ref.incarnation

    async def ask(self, model: str, name: str = "", *, max_tokens: int = 5, **more: Any) -> GenerateRequest:
        """Submits a request, and follows its log to the end in the background."""
        name = name or f"{model}-{len(self.texts)}"
        request = GenerateRequest(name, model=model, prompt=name, max_tokens=max_tokens, resume_grace_ms=10**9, **more)
        assert await self.serving.ledger.submit(request) is SubmitOutcome.ACCEPTED
        self.texts[name] = ""
        self.nursery.start_soon(self._follow, request)
        return request

    async def _follow(self, request: GenerateRequest) -> None:
        with await self.serving.ledger.follow(request.id) as follower:
            while request.id not in self.ends:
                await follower.wait_more()
                piece = follower.take()
                self.texts[request.id] += "".join(delta.text for delta in piece.deltas)
                if piece.end is not None:
                    self.ends[request.id] = piece.end

    async def until(self, condition: Any, *, within_s: float = 200.0) -> None:
        with trio.fail_after(within_s):
            while not condition():  # noqa: ASYNC110 - it may be a condition on anything
                await trio.sleep(0.05)

    async def all_ended(self) -> None:
        await self.until(lambda: len(self.ends) == len(self.texts))


@contextlib.asynccontextmanager
async def pool(sources: Sources, *, memory: str = "2GiB", **settings: Any) -> AsyncIterator[Pool]:
    """Runs models that need 1 GiB each, where nothing else is said."""
    models = {
        name: DeclaredModel(source=each, memory="1GiB") if isinstance(each, str) else each
        for name, each in sources.items()
    }
    chosen = Settings(model=(), models=models, model_memory=memory, **settings)
    serving = serving_only(chosen, serve_models(chosen))
    async with trio.open_nursery() as nursery:
        await nursery.start(serving.tree.run)
        yield Pool(serving, nursery)
        serving.tree.stop()


async def test_models_take_turns_in_the_memory(autojump_clock: MockClock) -> None:
    async with pool(dict.fromkeys("abcd", SLOW)) as running:
        assert {running.status(name).state for name in "abcd"} == {ModelState.UNLOADED}
        asked = [await running.ask("abcd"[number % 4], f"r{number}") for number in range(20)]
        await running.all_ended()
        assert running.texts == {each.id: mock_text(each) for each in asked}
        assert sorted(running.status(name).state.value for name in "abcd") == ["ready", "ready", "unloaded", "unloaded"]


async def test_estimate_of_a_load_is_shown(autojump_clock: MockClock) -> None:
    async with pool({"a": SLOW}) as running:
        await running.ask("a")
        await running.until(lambda: running.status("a").state is ModelState.LOADING)
        await running.all_ended()
        assert running.status("a").ready_in_s is None
        running.crash("backends/a")
        await running.until(lambda: running.status("a").state is ModelState.UNLOADED)
        assert running.status("a").ready_in_s == pytest.approx(2.0, abs=0.1)
        await running.ask("a")
        await trio.sleep(1.0)
        assert running.status("a").ready_in_s == pytest.approx(1.0, abs=0.6)
        await running.all_ended()


async def test_unloaded_model_is_no_problem(autojump_clock: MockClock) -> None:
    async with pool({"a": SLOW}) as running:
        assert running.serving.directory.problems() == {}
        await running.ask("a")
        await trio.sleep(1.0)
        assert running.status("a").state is ModelState.LOADING
        assert running.serving.directory.problems() == {}
        await running.all_ended()


async def test_idle_pool_asks_rarely_and_loads_at_once(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = 0
    demand = MemoryLedger.demand

    async def counting(ledger: MemoryLedger, models: Sequence[str]) -> list[ModelDemand]:
        nonlocal asked
        asked += 1
        return await demand(ledger, models)

    monkeypatch.setattr(MemoryLedger, "demand", counting)
    async with pool({f"m{number}": SLOW for number in range(100)}) as running:
        await trio.sleep(10)
        asked = 0
        await trio.sleep(60)
        assert asked <= 13
        await running.ask("m7")
        began = trio.current_time()
        await running.until(lambda: running.status("m7").state is ModelState.LOADING)
        assert trio.current_time() - began < 0.2
        await running.all_ended()


async def test_idle_model_leaves_after_its_time(autojump_clock: MockClock) -> None:
    async with pool({"a": DeclaredModel(source=SLOW, memory="1GiB", idle_s=30)}) as running:
        await running.ask("a")
        await running.all_ended()
        await trio.sleep(29.0)
        assert running.status("a").state is ModelState.READY
        await trio.sleep(2.0)
        assert running.status("a").state is ModelState.UNLOADED


async def test_running_request_keeps_its_model(autojump_clock: MockClock) -> None:
    async with pool(dict.fromkeys("ab", SLOW), memory="1GiB", model_patience_s=1.0, model_turn_s=1.0) as running:
        long = await running.ask("a", max_tokens=300)
        await trio.sleep(5.0)
        other = await running.ask("b")
        await trio.sleep(20.0)
        assert not running.ends
        assert running.status("a").state is ModelState.READY
        await running.all_ended()
        assert running.texts == {each.id: mock_text(each) for each in (long, other)}
        assert running.incarnation("backends/a") == 1


async def test_busy_model_gives_way_after_patience(autojump_clock: MockClock) -> None:
    async with pool(dict.fromkeys("ab", SLOW), memory="1GiB", model_patience_s=8.0, model_turn_s=2.0) as running:
        for _ in range(60):
            await running.ask("a", max_tokens=10)
        await trio.sleep(3.0)
        await running.ask("b", "rare")
        began = trio.current_time()
        await running.until(lambda: "rare" in running.ends)
        assert trio.current_time() - began <= 8.0 + 1.0 + 2.0 + 0.5 + 2.0
        assert len(running.ends) < 60
        await running.all_ended()


async def test_crash_of_a_loaded_model_continues_its_requests(autojump_clock: MockClock) -> None:
    async with pool(dict.fromkeys("ab", SLOW)) as running:
        asked = [await running.ask("a", max_tokens=30), await running.ask("b", max_tokens=30)]
        await running.until(lambda: running.status("a").state is ModelState.READY)
        await trio.sleep(1.0)
        running.crash("backends/a")
        await running.all_ended()
        assert running.texts == {each.id: mock_text(each) for each in asked}
        assert (running.incarnation("backends/a"), running.incarnation("backends/b")) == (2, 1)


async def test_crash_of_the_pool_loses_nothing(autojump_clock: MockClock) -> None:
    async with pool(dict.fromkeys("abc", SLOW), memory="1GiB") as running:
        asked = [await running.ask("abc"[number % 3], f"r{number}") for number in range(9)]
        for _ in range(4):
            await trio.sleep(1.3)
            running.crash("model pool")
        await running.all_ended()
        assert running.texts == {each.id: mock_text(each) for each in asked}


async def test_crash_of_a_batcher_loses_nothing(autojump_clock: MockClock) -> None:
    async with pool(dict.fromkeys("abc", SLOW), memory="1GiB") as running:
        asked = [await running.ask("abc"[number % 3], f"r{number}", max_tokens=20) for number in range(9)]
        for number in range(6):
            await trio.sleep(1.7)
            running.crash(f"batcher:{'abc'[number % 3]}")
        await running.all_ended()
        assert running.texts == {each.id: mock_text(each) for each in asked}


async def test_failed_loads_end_only_their_own_requests(autojump_clock: MockClock) -> None:
    sources = {"a": "mock:start_fail=99,load_s=1", "b": SLOW}
    async with pool(sources, memory="1GiB") as running:
        lost = await running.ask("a")
        good = await running.ask("b")
        await running.all_ended()
        assert running.texts[good.id] == mock_text(good)
        end = running.ends[lost.id]
        assert isinstance(end, Failed)
        assert end.code == "BACKEND_FAILED"
        assert end.message.startswith("the model a could not be loaded: injected: start 3 of 99")
        assert running.status("a").state is ModelState.FAILED
        assert "injected" in running.status("a").detail
        assert running.serving.directory.problems() == {}
        assert running.incarnation("backends/b") == 1


async def test_load_that_fails_twice_is_tried_again(autojump_clock: MockClock) -> None:
    async with pool({"a": "mock:start_fail=2,load_s=1"}) as running:
        asked = await running.ask("a")
        await running.all_ended()
        assert running.texts[asked.id] == mock_text(asked)
        assert running.status("a").state is ModelState.READY


async def test_crash_while_loading_restarts_only_that_model(autojump_clock: MockClock) -> None:
    async with pool(dict.fromkeys("ab", SLOW)) as running:
        asked = [await running.ask("a"), await running.ask("b")]
        await trio.sleep(1.0)
        assert running.status("a").state is ModelState.LOADING
        running.crash("backends/a")
        await running.all_ended()
        assert running.texts == {each.id: mock_text(each) for each in asked}
        assert (running.incarnation("backends/a"), running.incarnation("backends/b")) == (2, 1)


def shout(prompts: list[str], max_tokens: int) -> Iterator[list[str]]:
    """A backend of one's own, of which nobody knows what it can do before its first load."""
    yield [prompt.upper() for prompt in prompts]


async def test_model_of_unknown_abilities_is_loaded_once(autojump_clock: MockClock) -> None:
    own = "tests.virtual.model_pool.test_pool:shout"
    async with pool({"own": own, "a": SLOW}, memory="1GiB") as running:
        assert running.status("own").capabilities is None
        await running.until(lambda: running.status("own").capabilities is not None)
        await running.ask("a")
        await running.all_ended()
        assert running.status("own").state is ModelState.UNLOADED
        assert running.status("own").capabilities is not None


async def test_models_of_a_group_are_never_loaded_together(autojump_clock: MockClock) -> None:
    models: Sources = {name: DeclaredModel(source=SLOW, memory="1GiB", group="g") for name in "ab"}
    async with pool(models) as running:
        for number in range(6):
            await running.ask("ab"[number % 2])
        while len(running.ends) < 6:
            states = [running.status(name).state for name in "ab"]
            assert states.count(ModelState.READY) + states.count(ModelState.LOADING) <= 1
            await trio.sleep(0.05)


async def test_pinned_models_are_loaded_at_the_start(autojump_clock: MockClock) -> None:
    models: Sources = {"a": DeclaredModel(source="mock", memory="1GiB", pin=True), "b": SLOW}
    async with pool(models) as running:
        assert (running.status("a").state, running.status("b").state) == (ModelState.READY, ModelState.UNLOADED)


@pytest.mark.parametrize("memory", ["1GiB", "1.5GiB"])
def test_model_that_never_fits_is_a_wrong_setting(memory: str) -> None:
    models = {
        "a": DeclaredModel(source="mock", memory="1GiB", pin=True),
        "b": DeclaredModel(source="mock", memory="1GiB"),
    }
    settings = Settings(model=(), models=models, model_memory=memory)
    with pytest.raises(ConfigError, match=r"^the model b needs 1\.00 GiB of memory, and there are 0\.[05]0 GiB: "):
        serving_only(settings, serve_models(settings))


async def test_suspect_kept_back_for_a_dead_backend_is_served(autojump_clock: MockClock) -> None:
    async with pool({"a": SLOW}) as running:
        ledger = running.serving.ledger
        suspect = await running.ask("a", "suspect")
        for _ in range(2):
            await ledger.beat("other")
            [claim] = await ledger.claim("other", "a", 1)
            await ledger.release(suspect.id, claim.epoch, ReleaseHow.FAILED, "a drill")
        [claim] = await ledger.claim("other", "a", 1)
        assert claim.quarantined
        first = await running.ask("a", "first", max_tokens=1000)
        while running.serving.directory.running["a"] < 1:
            await ledger.beat("other")
            await trio.sleep(0.1)
        await ledger.release(suspect.id, claim.epoch, ReleaseHow.SILENT)
        await trio.sleep(0.5)
        assert (await ledger.info(suspect.id)).state == "queued"
        assert await ledger.demand(["a"]) == []  # the suspect is kept back until the first request has ended
        running.crash("backends/a")
        await running.until(lambda: running.status("a").state is ModelState.LOADING)
        await ledger.cancel(first.id)
        running.crash("backends/a")
        await running.all_ended()
        assert running.texts["suspect"] == mock_text(suspect)
