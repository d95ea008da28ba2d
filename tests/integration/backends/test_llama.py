"""The real model. Nothing here waits for a fixed time: conditions are polled until a deadline."""

import functools
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import attrs
import psutil
import pytest
import trio

from llmactors.backends.base import Job, Output, StreamingBackend, Takeover
from llmactors.backends.llama.backend import LlamaBackend
from llmactors.backends.llama.process import LlamaCrashed, LlamaFrozen
from llmactors.backends.llama.settings import LlamaSettings
from llmactors.errors import InvalidRequest, ModelError
from llmactors.messages import GenerateRequest, TokenDelta
from tests.support.llama_slots import busy_slots

pytestmark = [pytest.mark.integration, pytest.mark.model, pytest.mark.timeout(240)]

SETTINGS = LlamaSettings(slots=4, context_tokens=512)
FOX = GenerateRequest("fox", "m", "Write a short story about a fox.", max_tokens=14, temperature=0)
HI = GenerateRequest("hi", "m", "Say hi.", max_tokens=60, temperature=0)
ENDLESS = attrs.evolve(FOX, max_tokens=400)


@pytest.fixture
async def backend(gguf: Path) -> AsyncIterator[LlamaBackend]:
    made = LlamaBackend(gguf, SETTINGS)
    try:
        await made.start()
        yield made
    finally:
        await made.close()


async def collect(backend: LlamaBackend, request: GenerateRequest, logged: Sequence[TokenDelta] = ()) -> list[Output]:
    return [output async for output in backend.generate(Job((request.id, 1), request, tuple(logged)))]


async def deltas_of(
    backend: LlamaBackend, request: GenerateRequest, logged: Sequence[TokenDelta] = ()
) -> list[TokenDelta]:
    outputs = await collect(backend, request, logged)
    assert [output.finish for output in outputs[:-1]] == [None] * (len(outputs) - 1)
    assert outputs[-1].finish is not None
    assert outputs[-1].prompt_tokens > 0
    return [delta for output in outputs for delta in output.deltas]


def text_of(deltas: Sequence[TokenDelta]) -> str:
    return "".join(delta.text for delta in deltas)


async def poll(condition: Callable[[], bool], within_s: float) -> None:
    with trio.fail_after(within_s):
        while not condition():  # noqa: ASYNC110 - another process decides
            await trio.sleep(0.01)


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


async def test_capabilities_follow_from_the_settings(backend: LlamaBackend) -> None:
    assert isinstance(backend, StreamingBackend)
    assert backend.capabilities.slots == 4
    assert backend.capabilities.context_tokens == 512
    assert backend.capabilities.takeover is Takeover.EXACT
    await backend.check()


async def test_takeover_gives_the_same_text(backend: LlamaBackend) -> None:
    """Greedy, and sampled with a seed; at several cuts; alone, and four at once."""
    for request in (FOX, attrs.evolve(FOX, temperature=0.9, seed=7)):
        whole = await deltas_of(backend, request)
        assert len(whole) == 14
        together: dict[int, list[TokenDelta]] = {}

        async def take_over(
            cut: int,
            request: GenerateRequest = request,
            whole: list[TokenDelta] = whole,
            together: dict[int, list[TokenDelta]] = together,
        ) -> None:
            together[cut] = await deltas_of(backend, request, whole[:cut])

        assert await deltas_of(backend, request, whole[:6]) == whole[6:]
        async with trio.open_nursery() as nursery:
            for cut in (0, 1, 9, 13):
                nursery.start_soon(take_over, cut)
        assert together == {cut: whole[cut:] for cut in (0, 1, 9, 13)}


async def test_each_token_of_a_character_is_logged(backend: LlamaBackend) -> None:
    """llama.cpp sends no ids for incomplete characters."""
    smileys = "Smileys: 😀 😃 😄 😁 😆 😀 😃 😄 😁 😆 😀 😃"
    request = GenerateRequest("s", "m", smileys, max_tokens=7, temperature=0, raw=True)
    whole = await deltas_of(backend, request)
    assert len(whole) == 7
    assert any(character in text_of(whole) for character in "😀😃😄😁😊")
    assert text_of(whole).endswith("\N{REPLACEMENT CHARACTER}"), "the limit cut the last character"
    for cut in (1, 2, 6, 7):
        assert whole[:cut] + await deltas_of(backend, request, whole[:cut]) == whole


async def test_incomplete_characters_are_logged_token_by_token(backend: LlamaBackend) -> None:
    """At this temperature most characters are never completed."""
    request = GenerateRequest("n", "m", "世 😀", max_tokens=40, temperature=3.0, seed=4, raw=True)
    whole = await deltas_of(backend, request)
    assert len(whole) == 40
    assert text_of(whole)


async def test_end_token_is_logged_and_not_shown(backend: LlamaBackend) -> None:
    outputs = await collect(backend, HI)
    whole = [delta for output in outputs for delta in output.deltas]
    assert outputs[-1].finish == "stop"
    assert whole[-1].text == ""
    assert "<|" not in text_of(whole)
    (resumed,) = await collect(backend, HI, whole)
    assert (resumed.deltas, resumed.finish) == ((), "stop")


async def test_stop_string_is_never_shown_after_a_takeover(backend: LlamaBackend) -> None:
    plain = text_of(await deltas_of(backend, HI))
    stop = plain[len(plain) // 3 : len(plain) // 3 + 9]
    request = attrs.evolve(HI, stop=(stop, "never said"))
    whole = await deltas_of(backend, request)
    assert text_of(whole) == plain[: plain.index(stop)]
    for cut in (len(whole) - 1, len(whole)):
        assert whole[:cut] + await deltas_of(backend, request, whole[:cut]) == whole


async def test_too_long_a_prompt_is_refused_with_the_numbers(backend: LlamaBackend) -> None:
    with pytest.raises(InvalidRequest, match=r"\d+ \+ 500 tokens.*512"):
        await collect(backend, attrs.evolve(FOX, max_tokens=500))
    with pytest.raises(InvalidRequest, match="prompt is empty"):
        await collect(backend, attrs.evolve(FOX, prompt="", raw=True))
    await backend.check()


async def test_cancelled_sequence_frees_its_slot(backend: LlamaBackend) -> None:
    async with trio.open_nursery() as nursery:
        started = trio.Event()

        async def run() -> None:
            async for _ in backend.generate(Job(("e", 1), ENDLESS)):
                started.set()

        nursery.start_soon(run)
        await started.wait()
        assert await busy_slots(backend._client) == 1
        nursery.cancel_scope.cancel()
    with trio.fail_after(5):
        while await busy_slots(backend._client):  # noqa: ASYNC110 - another process decides
            await trio.sleep(0.005)
    assert backend.statistics().waiting == 0


async def test_cancelled_prompt_ends_between_two_steps(gguf: Path) -> None:
    """Without reports of its progress llama.cpp would read the whole prompt for a client that is gone."""
    backend = LlamaBackend(gguf, attrs.evolve(SETTINGS, context_tokens=4096, step_tokens=64))
    request = attrs.evolve(FOX, prompt="fox dog " * 1500)
    try:
        await backend.start()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(collect, backend, request)
            with trio.fail_after(20):
                while not await busy_slots(backend._client):  # noqa: ASYNC110 - another process decides
                    await trio.sleep(0.005)
            nursery.cancel_scope.cancel()
        given_up = trio.current_time()
        with trio.fail_after(60):
            while await busy_slots(backend._client):  # noqa: ASYNC110 - another process decides
                await trio.sleep(0.005)
        given_up_s = trio.current_time() - given_up
        # The bound is a tenth of the time for the whole prompt, measured on this machine under its load of now.
        began = trio.current_time()
        await collect(backend, attrs.evolve(request, prompt="fox dog " * 150, max_tokens=1))
        assert given_up_s < 3 * (trio.current_time() - began)
    finally:
        await backend.close()


async def test_killed_child_ends_every_generate(backend: LlamaBackend) -> None:
    pid = backend.statistics().pid
    assert pid is not None

    async def kill() -> None:
        with pytest.raises(LlamaCrashed, match="SIGKILL"):  # noqa: PT012 - it dies while it streams
            async for _ in backend.generate(Job(("e", 1), ENDLESS)):
                os.kill(pid, signal.SIGKILL)

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(kill)
    with pytest.raises(LlamaCrashed, match="SIGKILL"):
        await backend.check()
    with pytest.raises(LlamaCrashed):
        await collect(backend, FOX)


async def test_frozen_child_is_noticed_and_closed(gguf: Path) -> None:
    backend = LlamaBackend(gguf, attrs.evolve(SETTINGS, health_s=0.3))
    try:
        await backend.start()
        pid = backend.statistics().pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        with trio.fail_after(20), pytest.raises(LlamaFrozen, match="did not answer"):  # noqa: PT012 - a signal takes time
            while True:
                await backend.check()
    finally:
        await backend.close()
    assert gone(pid)


async def test_cancelled_start_leaves_no_process(gguf: Path) -> None:
    backend = LlamaBackend(gguf, SETTINGS)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(backend.start)
            await poll(lambda: backend.statistics().pid is not None, 20)
            nursery.cancel_scope.cancel()
    finally:
        await backend.close()
    pid = backend.statistics().pid
    assert pid is not None
    assert gone(pid)


PARENT = """
import sys, trio
from pathlib import Path
from llmactors.backends.llama.backend import LlamaBackend
from llmactors.backends.llama.settings import LlamaSettings

async def main():
    backend = LlamaBackend(Path(sys.argv[1]), LlamaSettings(slots=1, context_tokens=64))
    await backend.start()
    print(backend.statistics().pid, flush=True)
    await trio.sleep_forever()

trio.run(main)
"""


async def test_child_dies_with_a_killed_parent(gguf: Path) -> None:
    parent = await trio.lowlevel.open_process([sys.executable, "-c", PARENT, str(gguf)], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    async with parent.stdout:
        try:
            with trio.fail_after(60):
                child = int(await parent.stdout.receive_some())
            assert not gone(child)
        finally:
            parent.kill()
            await parent.wait()
    await poll(functools.partial(gone, child), 10)


def damaged(kind: str, gguf: Path, directory: Path) -> Path:
    whole = gguf.read_bytes()
    path = directory / "damaged.gguf"
    contents = {
        "empty": b"",
        "text": b"<!DOCTYPE html><title>Sign in</title>",
        "version": whole[:4] + (9).to_bytes(4, "little") + whole[8:1000],
        "head": whole[:30_000],
        "tensors": whole[: len(whole) // 2],
        "tail": whole[:-1000],
    }
    path.write_bytes(contents[kind])
    return path


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("empty", "not a GGUF"),
        ("text", "not a GGUF"),
        ("version", "version 9"),
        ("head", "cut off"),
        ("tensors", "cut off"),
        ("tail", "corrupted or incomplete"),
    ],
)
async def test_damaged_file_is_one_clear_line(gguf: Path, tmp_path: Path, kind: str, message: str) -> None:
    backend = LlamaBackend(damaged(kind, gguf, tmp_path), SETTINGS)
    try:
        with pytest.raises(ModelError, match=message) as caught:
            await backend.start()
    finally:
        await backend.close()
    assert "\n" not in caught.value.message


async def test_missing_file_is_named(tmp_path: Path) -> None:
    backend = LlamaBackend(tmp_path / "none.gguf")
    with pytest.raises(ModelError, match=r"no model file .*none\.gguf"):
        await backend.start()
    await backend.close()


async def test_missing_xllamacpp_names_what_to_install(
    gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "xllamacpp.py").write_text("raise ImportError('No module named xllamacpp')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    backend = LlamaBackend(gguf, SETTINGS)
    try:
        with pytest.raises(ModelError, match=r"pip install 'llmactors\[llama\]'"):
            await backend.start()
    finally:
        await backend.close()
