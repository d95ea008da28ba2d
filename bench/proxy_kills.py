"""What the clients of a proxy notice when its upstream or the proxy itself is killed by SIGKILL in mid-stream.

Each client asks for one chat. The kill comes once every client has a part of its answer. Every token is compared with
the token that the upstream must make.

- The upstream is killed: two upstreams run behind the proxy, and the first one is killed. Clients do nothing.
- The proxy is killed: two proxies run in front of one upstream, as behind a balancer of load; two gateways of one
  cluster in the case of llmactors over Redis. All clients are connected to the first one, which is killed. A client
  whose connection breaks asks the second one again, with the `Idempotency-Key` of its first request, and reads from
  the beginning. `made_again_share` says how many tokens the upstream has made twice for that.
"""

import contextlib
import functools
import itertools
import json
import os
import signal
import statistics
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import attrs
import httpx
import psutil
import trio

from bench.scenario import Bench, Round
from bench.servers import CLUSTER, OURS, UPSTREAM_MODEL, RunningServer, port_of, run_upstream
from llmactors.backends.mock.oracle import sequence_hash, token_of

STEP_MS = 100.0
"""So slow that the slowest proxy keeps up: otherwise the upstream would have made all tokens before the kill."""
TOKENS = 60
"""The tokens of an answer, which ends by itself: a continued answer needs no smaller `max_tokens`."""
MAX_TOKENS = 4 * TOKENS
BEFORE_KILL = 20
"""The tokens that every client has when the kill comes."""
LIMIT_S = 60.0
"""From the first request to the end of the last answer."""
_PAUSE_S = 0.1


@attrs.define
class Reading:
    """What one client has read of one answer."""

    pieces: list[str] = attrs.field(factory=list)
    times: list[float] = attrs.field(factory=list)
    is_done: bool = False
    """Whether `[DONE]` came behind an answer without an error."""
    ended_quietly: bool = False
    """Whether the body ended as HTTP bodies end, without an error in it."""


@attrs.frozen
class Comparison:
    """A text beside the tokens that it should have."""

    is_complete: bool
    wrong: int
    """Tokens that belong to no place of the answer."""
    repeated: int
    """Tokens that came more than once."""


def compare(text: str, expected: Sequence[str], *, is_done: bool) -> Comparison:
    """Compare the text that a client has with the tokens `expected`. Each token begins with a space. Pure."""
    words = [f" {word}" for word in text.split(" ")[1:]] if text.startswith(" ") else [text] if text else []
    known = [word for word in words if word in set(expected)]
    # The last word of a text that was cut may be a part of a token.
    is_part = not is_done and bool(words) and any(token.startswith(words[-1]) for token in expected)
    wrong = len(words) - len(known) - (is_part and words[-1] not in expected)
    return Comparison(is_done and words == list(expected), wrong, len(known) - len(set(known)))


def expected_tokens(prompt: str, seed: int) -> list[str]:
    """The tokens that the upstream makes for a chat of one message."""
    base = sequence_hash(f"user: {prompt}", seed)
    return [token_of(base, seq).text for seq in range(1, TOKENS + 1)]


def measure(bench: Bench, name: str, clients: int) -> Round:
    """Kill the upstream, and then the proxy, each under `clients` streams on fresh servers.

    Raises:
        RuntimeError: The server was so late that its upstream had made all tokens before the kill.
    """
    with (
        run_upstream(STEP_MS, length=TOKENS) as first,
        run_upstream(STEP_MS, length=TOKENS) as second,
        bench.run_server(name, model_of(name, [first, second])) as server,
    ):
        kill = functools.partial(_kill_in_mid_stream, first, first.url, [first, second], clients)
        upstream_killed = _play((server.url,), clients, kill)
    with run_upstream(STEP_MS, length=TOKENS) as upstream, _two_of(bench, name, upstream) as proxies:
        urls = [url for proxy in proxies for url in proxy.urls]
        before = _made(upstream)
        kill = functools.partial(_kill_in_mid_stream, proxies[0], urls[0], [upstream], clients)
        proxy_killed = _play(urls, clients, kill)
        made = _made(upstream) - before
    return {
        "upstream_killed": upstream_killed,
        "proxy_killed": {**proxy_killed, "made_again_share": made / (clients * TOKENS) - 1},
    }


def model_of(name: str, upstreams: Sequence[RunningServer], slots: int = 400) -> str:
    """What the server `name` is started with to serve the model of `upstreams`."""
    if name in OURS:
        return "|".join(f"openai:{each.url}/v1,model={UPSTREAM_MODEL}" for each in upstreams) + f",slots={slots}"
    return " ".join(each.url for each in upstreams)


@contextlib.contextmanager
def _two_of(bench: Bench, name: str, upstream: RunningServer) -> Iterator[list[RunningServer]]:
    model = model_of(name, [upstream])
    with contextlib.ExitStack() as stack:
        if name == CLUSTER:
            yield [stack.enter_context(bench.run_server(name, model, gateways=2))]
        else:
            yield [stack.enter_context(bench.run_server(name, model)) for _ in range(2)]


def _kill_in_mid_stream(server: RunningServer, url: str, upstreams: Sequence[RunningServer], clients: int) -> bool:
    """Kill the process of `server` that listens at `url`, and what this process has started.

    Returns whether the upstreams had tokens left to make.
    """
    has_tokens_left = sum(_made(each) for each in upstreams) < clients * TOKENS
    for pid in [pid for pids in server.parts.values() for pid in pids()]:
        process = psutil.Process(pid)
        if any(
            each.status == psutil.CONN_LISTEN and each.laddr.port == port_of(url) for each in process.net_connections()
        ):
            for child in process.children(recursive=True):
                child.kill()
            os.kill(pid, signal.SIGKILL)
            return has_tokens_left
    raise RuntimeError(f"no process of the server listens at {url}")


def _made(upstream: RunningServer) -> int:
    return int(httpx.get(f"{upstream.url}/made", trust_env=False).text)


def _play(urls: Sequence[str], clients: int, kill: Callable[[], bool]) -> Round:
    return trio.run(_ask_all, urls, clients, kill)


async def _ask_all(urls: Sequence[str], clients: int, kill: Callable[[], bool]) -> Round:
    readings = [[Reading()] for _ in range(clients)]
    """By client: its answers, of which the last one counts."""
    in_mid_stream = False
    with trio.move_on_after(LIMIT_S):
        async with trio.open_nursery() as nursery:
            for number, own in enumerate(readings):
                nursery.start_soon(_ask, urls, number, own)
            with trio.move_on_after(LIMIT_S / 2):
                # The times of tokens come from other processes, so there is no event to wait for.
                while any(len(own[0].pieces) < BEFORE_KILL for own in readings):  # noqa: ASYNC110
                    await trio.sleep(STEP_MS / 1e3)
            in_mid_stream = kill()
    if not in_mid_stream:
        raise RuntimeError("the proxy was so late that its upstream had made all tokens before the kill")
    return summary(readings)


def summary(readings: Sequence[Sequence[Reading]]) -> Round:
    """The figures of all clients. The list of each client has its answers, of which the last one counts. Pure."""
    compared: list[list[Comparison]] = [
        [compare("".join(each.pieces), expected_tokens(f"kill {number}", number), is_done=each.is_done) for each in own]
        for number, own in enumerate(readings)
    ]
    gaps = [longest_wait(own) for own, each in zip(readings, compared, strict=True) if each[-1].is_complete]
    return {
        "complete_share": sum(own[-1].is_complete for own in compared) / len(compared),
        "complete_at_once_share": sum(own[0].is_complete for own in compared) / len(compared),
        "wrong": sum(each.wrong for own in compared for each in own),
        "repeated": sum(each.repeated for own in compared for each in own),
        # A client cannot tell such an answer from a complete one but by what it lacks.
        "quiet_cuts": sum(
            answer.ended_quietly and not each.is_complete
            for own, answers in zip(compared, readings, strict=True)
            for each, answer in zip(own, answers, strict=True)
        ),
        **({"longest_gap_s": statistics.median(gaps)} if gaps else {}),
    }


def longest_wait(answers: Sequence[Reading]) -> float:
    """The longest time in which a client got no token that it did not have already. Pure."""
    times: list[float] = []
    for answer in answers:
        times += answer.times[len(times) :]
    return max((later - earlier for earlier, later in itertools.pairwise(times)), default=0.0)


async def _ask(urls: Sequence[str], number: int, readings: list[Reading]) -> None:
    """Ask the first URL, and each further one after a connection that broke or an answer that was not complete."""
    body = {
        "model": UPSTREAM_MODEL,
        "messages": [{"role": "user", "content": f"kill {number}"}],
        "seed": number,
        "max_tokens": MAX_TOKENS,
        "stream": True,
    }
    headers = {"Idempotency-Key": str(uuid.uuid4())}
    for url in urls:
        if readings[-1].pieces:
            readings.append(Reading())
            await trio.sleep(_PAUSE_S)
        with contextlib.suppress(httpx.HTTPError):
            async with httpx.AsyncClient(base_url=url, timeout=LIMIT_S, trust_env=False) as client:
                await _read(client, body, headers, readings[-1])
        if readings[-1].is_done:
            return


async def _read(client: httpx.AsyncClient, body: dict[str, Any], headers: dict[str, str], reading: Reading) -> None:
    """Read one answer to its end. Raises `httpx.HTTPError` where the connection breaks."""
    has_error = False
    async with client.stream("POST", "/v1/chat/completions", json=body, headers=headers) as response:
        async for line in response.aiter_lines():
            if line == "data: [DONE]":
                reading.is_done = response.is_success and not has_error
            elif line.startswith("data: "):
                event = json.loads(line.removeprefix("data: "))
                has_error = has_error or bool(event.get("error"))
                for choice in event.get("choices") or ():
                    if text := (choice.get("delta") or {}).get("content"):
                        reading.pieces.append(text)
                        reading.times.append(trio.current_time())
        reading.ended_quietly = response.is_success and not has_error
