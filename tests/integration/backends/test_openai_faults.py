"""Each fault of an upstream, before and after the first token, with and without a good upstream beside it."""

import contextlib
import random
import socket
from collections.abc import AsyncIterator

import pytest
import trio

from llmactors.backends.base import Job, Output, Takeover
from llmactors.backends.openai import OpenAIBackend, OpenAISettings
from llmactors.backends.openai.responses.chunks import NO_TOKEN
from llmactors.backends.openai.routing.circuit import CircuitState
from llmactors.errors import BackendFailed, Interrupted, InvalidRequest, LlmactorsError, ModelError, Unavailable
from llmactors.messages import GenerateRequest, TokenDelta
from llmactors.testing.node import wait_until
from tests.support.faulty_upstream import WORDS, Behaviour, FaultyUpstream, Hit, ending, good, sse, upstream

pytestmark = pytest.mark.integration

KEY = ("r", 1)
LIMITS = "first_s=0.3,silence_s=0.3,wait_s=0.5"


def job(
    *logged: str, raw: bool = False, max_tokens: int = len(WORDS), stop: tuple[str, ...] = (), seed: int | None = None
) -> Job:
    request = GenerateRequest("r", "gpt", "a prompt", max_tokens=max_tokens, raw=raw, stop=stop, seed=seed)
    return Job(KEY, request, tuple(TokenDelta(NO_TOKEN, piece) for piece in logged))


@contextlib.asynccontextmanager
async def backend(options: str, *, keys: tuple[str, ...] = ()) -> AsyncIterator[OpenAIBackend]:
    settings = OpenAISettings.parse(f"{LIMITS},{options}", name="gpt")
    made = OpenAIBackend(settings, keys=keys, rng=random.Random(4))
    await made.start()
    try:
        yield made
    finally:
        await made.close()


def first(bad: FaultyUpstream, fine: FaultyUpstream) -> str:
    """`bad` is always chosen while its circuit admits requests."""
    return f"{bad.url},weight=1000000|openai:{fine.url},weight=0.001"


async def run(made: OpenAIBackend, what: Job, outputs: list[Output] | None = None) -> list[Output]:
    found = [] if outputs is None else outputs

    def offer(output: Output) -> bool:
        if len(found) % 3 == 2:  # a driver without room: the backend yields the output
            return False
        found.append(output)
        return True

    made.offer_outputs(offer)
    async with contextlib.aclosing(made.generate(what)) as stream:
        async for output in stream:
            found.append(output)
    return found


def told(outputs: list[Output]) -> str:
    return "".join(delta.text for output in outputs for delta in output.deltas)


def count(outputs: list[Output]) -> int:
    return sum(len(output.deltas) for output in outputs)


# The faults.


async def hangs_before_the_header(hit: Hit) -> None:
    await hit.wait_closed()


async def closes_without_an_answer(hit: Hit) -> None:
    await hit.stream.aclose()


def refuses(status: int, *headers: tuple[str, str]) -> Behaviour:
    async def behave(hit: Hit) -> None:
        await hit.refuse(status, *headers)

    return behave


async def wrong_content_type(hit: Hit) -> None:
    await hit.head(kind="text/html")
    await hit.data(b"<html>")
    await hit.end()


async def hangs_after_the_header(hit: Hit) -> None:
    await hit.head()
    await hit.wait_closed()


async def keeps_alive_for_ever(hit: Hit) -> None:
    await hit.head()
    while True:
        await hit.data(b": ping\n\n")
        await trio.sleep(0.02)


async def bad_json_at_once(hit: Hit) -> None:
    await hit.head()
    await hit.data(sse(b"{no json"))
    await hit.wait_closed()


async def error_at_once(hit: Hit) -> None:
    await hit.head()
    await hit.data(sse({"error": {"message": "broken", "code": 500}}))
    await hit.end()


async def ends_at_once(hit: Hit) -> None:
    await hit.head()
    await hit.end()


BEFORE = {
    "hangs before the header": (hangs_before_the_header, BackendFailed),
    "closes": (closes_without_an_answer, BackendFailed),
    "429": (refuses(429), Unavailable),
    "429 for a minute": (refuses(429, ("Retry-After", "60")), Unavailable),
    "500": (refuses(500), BackendFailed),
    "503": (refuses(503), Unavailable),
    "401": (refuses(401), BackendFailed),
    "404": (refuses(404), BackendFailed),
    "redirect": (refuses(302, ("Location", "http://127.0.0.1:1/")), BackendFailed),
    "wrong content type": (wrong_content_type, BackendFailed),
    "hangs after the header": (hangs_after_the_header, BackendFailed),
    "keeps alive": (keeps_alive_for_ever, BackendFailed),
    "bad json": (bad_json_at_once, BackendFailed),
    "error object": (error_at_once, BackendFailed),
    "ends": (ends_at_once, BackendFailed),
}


HOPELESS = {"401", "404"}
"""The circuit opens at once, because every other request would fail in the same way."""


async def cut(hit: Hit) -> None:
    await hit.head()
    await hit.words(WORDS[:2])
    await hit.stream.aclose()


async def bad_json(hit: Hit) -> None:
    await hit.head()
    await hit.words(WORDS[:2])
    await trio.sleep(0.02)
    await hit.data(sse(b"{no json"))
    await hit.wait_closed()


async def eof(hit: Hit) -> None:
    await hit.head()
    await hit.words(WORDS[:2])
    await hit.end()


async def done_without_a_reason(hit: Hit) -> None:
    await hit.head()
    await hit.words(WORDS[:2])
    await trio.sleep(0.02)
    await hit.data(sse(b"[DONE]"))
    await hit.end()


async def in_stream_error(hit: Hit) -> None:
    await hit.head()
    await hit.words(WORDS[:2])
    await trio.sleep(0.02)
    await hit.data(sse({"error": {"message": "out of memory", "type": "server_error"}}))
    await hit.end()


async def silence(hit: Hit) -> None:
    await hit.head()
    await hit.words(WORDS[:2])
    await hit.wait_closed()


AFTER = {
    "cut": cut,
    "bad json": bad_json,
    "eof": eof,
    "done without a reason": done_without_a_reason,
    "error object": in_stream_error,
    "silence": silence,
}


@pytest.mark.parametrize("fault", BEFORE)
async def test_early_fault_fails_over_to_another_upstream(fault: str) -> None:
    async with upstream(BEFORE[fault][0]) as bad, upstream(good) as fine, backend(first(bad, fine)) as made:
        outputs = await run(made, job())

    assert (told(outputs), count(outputs), outputs[-1].finish) == ("".join(WORDS), 4, "length")
    assert outputs[-1].prompt_tokens == 7
    assert (len(bad.hits), len(fine.hits)) == (1, 1)


@pytest.mark.parametrize("fault", BEFORE)
async def test_early_fault_of_the_only_upstream_is_tried_again(fault: str) -> None:
    async with upstream(BEFORE[fault][0], good) as only, backend(only.url) as made:
        if fault == "429 for a minute":
            with pytest.raises(Unavailable) as caught:
                await run(made, job())
            assert caught.value.retry_after_s == 60
        elif fault in HOPELESS:
            with pytest.raises(BackendFailed):
                await run(made, job())
            assert made.statistics().circuits == {only.url: "open"}
        else:
            assert told(await run(made, job())) == "".join(WORDS)


@pytest.mark.parametrize("fault", BEFORE)
async def test_lasting_fault_reaches_the_client_by_its_code(fault: str) -> None:
    behaviour, kind = BEFORE[fault]
    async with upstream(behaviour) as only, backend(f"{only.url},attempts=2") as made:
        with pytest.raises(LlmactorsError) as caught:
            await run(made, job())
    assert type(caught.value) is kind


async def test_refused_connection_fails_over() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
        async with upstream(good) as fine, backend(f"{url},weight=1e6|{fine.url},weight=0.001") as made:
            assert told(await run(made, job())) == "".join(WORDS)
        async with backend(f"{url},attempts=2") as made:
            with pytest.raises(Unavailable, match="cannot be reached"):
                await run(made, job())


@pytest.mark.parametrize("fault", AFTER)
async def test_late_fault_interrupts_the_answer(fault: str) -> None:
    """No other answer follows the first one, and no short answer ends like a complete one."""
    outputs: list[Output] = []
    async with (
        upstream(AFTER[fault]) as bad,
        upstream(good) as fine,
        backend(f"{first(bad, fine)},continue=none") as made,
    ):
        with pytest.raises(Interrupted):
            await run(made, job(seed=1), outputs)  # an answer with a seed could be asked for again
    assert told(outputs) == "".join(WORDS[:2])
    assert not fine.hits


@pytest.mark.parametrize("fault", AFTER)
async def test_late_fault_is_continued_by_another_upstream(fault: str) -> None:
    async with (
        upstream(AFTER[fault]) as bad,
        upstream(good) as fine,
        backend(f"{first(bad, fine)},continue=raw") as made,
    ):
        outputs = await run(made, job(raw=True))
    assert (told(outputs), count(outputs), outputs[-1].finish) == ("".join(WORDS), 4, "length")
    body = fine.hits[0].body
    assert (body["prompt"], body["max_tokens"]) == ("a prompt" + "".join(WORDS[:2]), 2)


async def test_takeover_continues_or_interrupts() -> None:
    async with upstream(good) as fine:
        async with backend(f"{fine.url},continue=raw") as made:
            assert made.capabilities.takeover is Takeover.CONTINUE
            assert told(await run(made, job(*WORDS[:3], raw=True))) == WORDS[3]
            with pytest.raises(Interrupted):
                await run(made, job(*WORDS[:3]))
        async with backend(f"{fine.url},continue=none") as made:
            assert made.capabilities.takeover is Takeover.RESTART


async def test_bad_request_is_not_tried_again() -> None:
    async def behave(hit: Hit) -> None:
        await hit.refuse(400, error={"message": "too long\nfor the context"})

    async with upstream(behave) as only, backend(only.url) as made:
        with pytest.raises(InvalidRequest, match="too long for the context"):
            await run(made, job())
        assert len(only.hits) == 1
        for _ in range(3):
            with pytest.raises(InvalidRequest):
                await run(made, job())
        assert made.statistics().circuits == {only.url: "closed"}


@pytest.mark.parametrize("code", ["POISONED", "DEADLINE_EXCEEDED"])
async def test_codes_of_an_llmactors_upstream_are_kept(code: str) -> None:
    async def behave(hit: Hit) -> None:
        await hit.head()
        await hit.data(sse({"error": {"message": "no", "code": code}}))
        await hit.end()

    async with upstream(behave) as only, backend(only.url) as made:
        with pytest.raises(LlmactorsError) as caught:
            await run(made, job())
    assert (caught.value.code, len(only.hits)) == (code, 1)


async def test_bytes_after_the_end_are_ignored() -> None:
    async def behave(hit: Hit) -> None:
        await hit.head()
        await hit.words()
        await hit.data(b"".join([*ending(), sse({"choices": [{"delta": {"content": "more"}}]}), sse(b"{bad")]))
        await hit.wait_closed()

    async with upstream(behave) as only, backend(only.url) as made:
        assert told(await run(made, job())) == "".join(WORDS)


@pytest.mark.parametrize("how", ["eof", "silence", "cut"])
async def test_answer_with_a_finish_reason_is_complete(how: str) -> None:
    async def behave(hit: Hit) -> None:
        await hit.head()
        await hit.words()
        await hit.data(ending("stop")[0])
        await trio.sleep(0.02)
        await {"eof": hit.end, "silence": hit.wait_closed, "cut": hit.stream.aclose}[how]()

    async with upstream(behave) as only, backend(only.url) as made:
        outputs = await run(made, job())
    assert (told(outputs), outputs[-1].finish) == ("".join(WORDS), "stop")


async def test_stream_is_read_byte_by_byte() -> None:
    async def behave(hit: Hit) -> None:
        await hit.head()
        for byte in b"".join(
            [sse({"choices": [{"delta": {"content": "wörd 😀"}}]}).replace(b"\n", b"\r\n"), *ending()]
        ):
            await hit.data(bytes([byte]))
            await trio.lowlevel.checkpoint()
        await hit.end()

    async with upstream(behave) as only, backend(only.url) as made:
        outputs = await run(made, job(max_tokens=20))
    assert (told(outputs), count(outputs)) == ("wörd 😀", 4)


async def test_cancel_closes_the_stream() -> None:
    async with upstream(silence) as only, backend(only.url) as made:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run, made, job(max_tokens=100))
            await wait_until(lambda: bool(only.hits))
            await trio.sleep(0.05)
            nursery.cancel_scope.cancel(reason="evicted")
        with trio.fail_after(0.1):
            await only.hits[0].closed_by_peer.wait()
        assert "running=0" in repr(made)


async def test_closed_generator_closes_the_stream() -> None:
    async with upstream(silence) as only, backend(only.url) as made:
        async with contextlib.aclosing(made.generate(job(max_tokens=100))) as outputs:
            await anext(outputs)
        with trio.fail_after(0.1):
            await only.hits[0].closed_by_peer.wait()


async def test_connections_are_reused() -> None:
    async with upstream(good) as only, backend(only.url) as made:
        for _ in range(5):
            assert told(await run(made, job())) == "".join(WORDS)
        assert only.connections == 1


async def test_request_has_all_fields() -> None:
    async with upstream(good) as only, backend(f"{only.url},model=other", keys=("sesame",)) as made:
        await run(made, job(seed=5, stop=("END",)))
        await run(made, job(raw=True))
    chat, raw = only.hits
    assert chat.headers["authorization"] == "Bearer sesame"
    assert chat.body == {
        "model": "other",
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0.7,
        "top_p": 1.0,
        "seed": 5,
        "stop": ["END"],
        "messages": [{"role": "user", "content": "a prompt"}],
        "max_tokens": 4,
    }
    assert (raw.target, raw.body["prompt"]) == ("/v1/completions", "a prompt")


async def test_open_circuit_gets_no_requests_until_a_trial() -> None:
    async with (
        upstream(refuses(500), refuses(500), refuses(500), good) as bad,
        upstream(good) as fine,
        backend(first(bad, fine)) as made,
    ):
        circuit = made._balance.circuits[0]
        for _ in range(6):
            assert told(await run(made, job())) == "".join(WORDS)
        assert (len(bad.hits), circuit.state) == (3, CircuitState.OPEN)
        await trio.sleep_until(circuit.next_at(trio.current_time()))
        assert told(await run(made, job())) == "".join(WORDS)
        assert (len(bad.hits), made.statistics().circuits[bad.url]) == (4, "closed")


async def test_retry_after_delays_the_next_try() -> None:
    async with upstream(refuses(429, ("retry-after-ms", "250")), good) as only, backend(only.url) as made:
        began = trio.current_time()
        assert told(await run(made, job())) == "".join(WORDS)
        assert trio.current_time() - began >= 0.25


async def test_proxies_of_the_environment_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with upstream(good) as only, backend(only.url) as made:
        assert told(await run(made, job())) == "".join(WORDS)


@pytest.mark.parametrize(
    ("options", "keys"),
    [("https://127.0.0.1:1/v1,ca_file=/no/such/file", ()), ("http://127.0.0.1:1/v1", ("two\nlines",))],
    ids=["authorities", "key"],
)
async def test_unusable_upstream_settings_fail_the_start(options: str, keys: tuple[str, ...]) -> None:
    with pytest.raises(ModelError) as caught:
        async with backend(options, keys=keys):
            pass
    assert "lines" not in caught.value.message


@pytest.mark.parametrize(
    "raw", [b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", b"SSH-2.0-x\r\n\r\n", b"\0" * 100_000]
)
async def test_upstream_without_http_fails_over(raw: bytes) -> None:
    async def nonsense(hit: Hit) -> None:
        await hit.stream.send_all(raw)
        await hit.wait_closed()

    async with upstream(nonsense) as bad, upstream(good) as fine, backend(first(bad, fine)) as made:
        assert told(await run(made, job())) == "".join(WORDS)
        assert (len(bad.hits), len(fine.hits)) == (1, 1)
