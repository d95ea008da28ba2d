"""A plain function over a batch as a backend."""

import contextlib
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import pytest

from llmactors.backends.base import Batching, Job, Output, StepwiseBackend, Takeover
from llmactors.backends.custom.batch import BatchBackend, takes_batches
from llmactors.backends.custom.load import load_backend
from llmactors.errors import Interrupted
from llmactors.messages import GenerateRequest, TokenDelta

Step = list[str | None]


def job(number: int, prompt: str = "p", *, max_tokens: int = 3, logged: int = 0, stop: tuple[str, ...] = ()) -> Job:
    request = GenerateRequest(f"r{number}", "m", prompt, max_tokens=max_tokens, stop=stop)
    return Job((f"r{number}", 1), request, (TokenDelta(-1, "x"),) * logged)


@contextlib.asynccontextmanager
async def started(function: Any) -> AsyncIterator[BatchBackend]:
    backend = BatchBackend(lambda: function)
    await backend.start()
    try:
        yield backend
    finally:
        await backend.close()


async def run(backend: BatchBackend, *jobs: Job) -> dict[str, tuple[str, str | None]]:
    for each in jobs:
        await backend.admit(each)
    texts: dict[str, tuple[str, str | None]] = {}
    while any(texts.get(each.key[0], ("", None))[1] is None for each in jobs):
        for output in await backend.step():
            text, _ = texts.get(output.key[0], ("", None))
            texts[output.key[0]] = (text + "".join(delta.text for delta in output.deltas), output.finish)
    return texts


def spell(prompts: Sequence[str], max_tokens: int) -> Iterator[Step]:
    for step in range(max_tokens):
        yield [prompt[step] if step < len(prompt) else None for prompt in prompts]


async def test_each_row_of_a_batch_ends_by_itself() -> None:
    async with started(spell) as backend:
        assert isinstance(backend, StepwiseBackend)
        assert backend.capabilities.batching is Batching.STATIC
        assert backend.capabilities.takeover is Takeover.RESTART
        found = await run(backend, job(1, "abcd"), job(2, "a"), job(3, "xyz"))
    assert found == {"r1": ("abc", "length"), "r2": ("a", "stop"), "r3": ("xyz", "length")}


async def test_batches_run_one_after_another() -> None:
    async with started(spell) as backend:
        assert await run(backend, job(1, "ab", max_tokens=1)) == {"r1": ("a", "length")}
        assert await run(backend, job(2, "cd", max_tokens=2)) == {"r2": ("cd", "length")}


async def test_iterator_may_end_early() -> None:
    def two(prompts: Sequence[str], max_tokens: int) -> list[Step]:
        return [["a", "b"], ["c", "d"]]

    async with started(two) as backend:
        assert await run(backend, job(1), job(2)) == {"r1": ("ac", "stop"), "r2": ("bd", "stop")}


async def test_batch_whose_rows_are_all_evicted_is_closed() -> None:
    closed: list[bool] = []

    def generate(prompts: Sequence[str], max_tokens: int) -> Iterator[Step]:
        try:
            while True:
                yield list(prompts)
        finally:
            closed.append(True)

    async with started(generate) as backend:
        await backend.admit(job(1, "a"))
        await backend.admit(job(2, "b"))
        await backend.step()
        backend.evict(("r1", 1))
        assert [output.key[0] for output in await backend.step()] == ["r2"]
        with pytest.raises(RuntimeError, match="so no request may join"):
            await backend.admit(job(3))
        backend.evict(("r2", 1))
        assert await run(backend, job(3, "c")) == {"r3": ("ccc", "length")}
    assert closed == [True, True]


async def test_stop_string_ends_an_answer() -> None:
    async with started(spell) as backend:
        found = await run(backend, job(1, "say END now", max_tokens=20, stop=("END",)), job(2, "say EN", max_tokens=20))
    assert found == {"r1": ("say ", "stop"), "r2": ("say EN", "stop")}


async def test_function_runs_in_a_thread_and_can_get_the_requests() -> None:
    seen: list[Any] = []

    def generate(prompts: Sequence[str], max_tokens: int, requests: Sequence[GenerateRequest]) -> Iterator[Step]:
        seen.append((threading.current_thread() is threading.main_thread(), requests[0].temperature))
        yield ["a"]

    async with started(generate) as backend:
        await run(backend, job(1))
    assert seen == [(False, 0.7)]


async def test_answer_begun_elsewhere_is_interrupted() -> None:
    async with started(spell) as backend:
        with pytest.raises(Interrupted):
            await backend.admit(job(1, logged=1))


@pytest.mark.parametrize("steps", [[["a"]], [["a", "b", "c"]]])
async def test_step_of_another_size_is_a_crash(steps: list[Step]) -> None:
    async with started(lambda prompts, max_tokens: steps) as backend:
        with pytest.raises(TypeError, match="for 2 prompts"):
            await run(backend, job(1), job(2))


async def test_usage_counts_words() -> None:
    async with started(spell) as backend:
        await backend.admit(job(1, "a b c", max_tokens=1))
        outputs: list[Output] = await backend.step()
    assert outputs[0].prompt_tokens == 3


def test_functions_over_batches_are_recognised() -> None:
    class Model:
        def __call__(self, prompts: Sequence[str], max_tokens: int) -> Iterator[Step]:
            return spell(prompts, max_tokens)

    assert takes_batches(spell)
    assert takes_batches(Model)
    assert not takes_batches(dict)
    assert not takes_batches(lambda prompt: prompt)


def test_settings_of_the_node_become_options_of_a_backend() -> None:
    assert load_backend("llmactors.backends.mock.backend:MockBackend", slots=3)().capabilities.slots == 64
