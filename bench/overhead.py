"""What our layer adds to llama.cpp: the time to the first token, and the tokens per second that it costs.

    python -m bench.overhead

Two servers of the same model and settings, one behind a node of ours and one alone, are asked the same by turns, over
the same route of the same API. The models run on one core; the node and this client share the other one. Both sides
sample alike and read every prompt anew, so that what differs is our layer. Greedy texts must be equal, or it fails.

Reading a prompt takes hundreds of milliseconds here, and varies by more than we add. So there are probes too: short
questions, one at a time, of which each pair is compared. On a busy machine the lower quartile is the better figure.
"""

import argparse
import contextlib
import json
import os
import random
import secrets
import statistics
from collections.abc import AsyncIterator
from pathlib import Path

import attrs
import httpx
import psutil
import trio

from llmactors.backends.llama.backend import LlamaSettings
from llmactors.backends.llama.child import ChildConfig
from llmactors.backends.llama.process import LlamaProcess
from llmactors.testing.models import smollm2_path
from llmactors.testing.node import NodeProcess, children_of

MODEL_CORE, OUR_CORE = 0, 1
MODEL, SLOTS, CONTEXT = "m", 8, 512
WORDS = ("river", "stone", "harbor", "amber", "cedar", "frost", "meadow", "lantern", "winter", "copper", "orchard")
PLAIN = {"samplers": ["top_k"], "top_k": 1, "cache_prompt": False}
"""What our backend asks of llama.cpp for a greedy answer; our own route passes it over."""


@attrs.frozen
class Target:
    """Where to ask."""

    host: str
    port: int
    key: str
    pid: int | None = None
    """The node before the model, where there is one."""

    def cpu_s(self) -> float:
        """What the node's process has used of a processor; the model has a process of its own."""
        return 0.0 if self.pid is None else sum(psutil.Process(self.pid).cpu_times()[:2])


@attrs.frozen
class Answer:
    """One stream."""

    first_s: float
    tokens: int
    text: str


@attrs.frozen
class Batch:
    """Some streams at once."""

    answers: tuple[Answer, ...]
    seconds: float

    @property
    def tokens_per_s(self) -> float:
        return sum(answer.tokens for answer in self.answers) / self.seconds


@attrs.frozen
class Line:
    """The result for so many streams."""

    streams: int
    direct_ttft_ms: float
    ttft_ms: float
    added_ttft_ms: float
    """The median of what each round added to its median: rounds are compared with themselves."""
    direct_tokens_per_s: float
    tokens_per_s: float
    tokens_ratio: float
    """The median over the rounds."""
    cpu_ms_per_answer: float
    """What the node itself needs of a processor. Of all figures the one that other load does not move much."""


@attrs.frozen
class Probes:
    """What pairs of short questions showed."""

    direct_ms: tuple[float, float]
    """The time to the first token: its lower quartile and its median."""
    ms: tuple[float, float]
    added_ms: tuple[float, float]
    """The difference of the lower quartiles, and the median of the differences."""


async def ask(target: Target, prompt: str, max_tokens: int) -> Answer:
    body = json.dumps(
        {
            "model": MODEL,
            "prompt": prompt,
            "max_tokens": max_tokens,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
            **PLAIN,
        }
    ).encode()
    head = (
        f"POST /v1/completions HTTP/1.1\r\nHost: {target.host}\r\nAuthorization: Bearer {target.key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    begun, first_s, seen = trio.current_time(), 0.0, bytearray()
    async with await trio.open_tcp_stream(target.host, target.port) as stream:
        await stream.send_all(head.encode() + body)
        while b"data: [DONE]" not in seen[-64:]:
            data = await stream.receive_some()
            if not data:
                raise RuntimeError(f"the stream ended too early: {bytes(seen[-300:])!r}")
            seen += data
            if not first_s and b"data: " in seen:
                first_s = trio.current_time() - begun
    lines = [line for line in bytes(seen).split(b"\n") if line.startswith(b"data: {")]
    chunks = [json.loads(line.removeprefix(b"data: ")) for line in lines]
    text = "".join(choice["text"] for chunk in chunks for choice in chunk["choices"])
    [tokens] = [chunk["usage"]["completion_tokens"] for chunk in chunks if chunk.get("usage")]
    return Answer(first_s, tokens, text)


async def ask_all(target: Target, prompts: list[str], max_tokens: int) -> Batch:
    answers: dict[int, Answer] = {}

    async def one(place: int, prompt: str) -> None:
        answers[place] = await ask(target, prompt, max_tokens)

    begun = trio.current_time()
    async with trio.open_nursery() as nursery:
        for place, prompt in enumerate(prompts):
            nursery.start_soon(one, place, prompt)
    return Batch(tuple(answers[place] for place in range(len(prompts))), trio.current_time() - begun)


async def measure(direct: Target, ours: Target, streams: int, rounds: int, max_tokens: int, rng: random.Random) -> Line:
    batches: dict[Target, list[Batch]] = {direct: [], ours: []}
    cpu_s = ours.cpu_s()
    for number in range(rounds + 1):
        prompts = [" ".join(rng.choices(WORDS, k=24)) for _ in range(streams)]
        for target in (direct, ours) if number % 2 else (ours, direct):
            batches[target].append(await ask_all(target, prompts, max_tokens))
        pair = [[answer.text for answer in batches[target][-1].answers] for target in (direct, ours)]
        if streams == 1 and pair[0] != pair[1]:
            raise RuntimeError(f"the texts differ: {pair}")
    cpu_s = ours.cpu_s() - cpu_s
    first = {target: [_ttft_ms(batch) for batch in found[1:]] for target, found in batches.items()}
    speed = {target: [batch.tokens_per_s for batch in found[1:]] for target, found in batches.items()}
    return Line(
        streams,
        statistics.median(first[direct]),
        statistics.median(first[ours]),
        statistics.median(after - before for before, after in zip(first[direct], first[ours], strict=True)),
        statistics.median(speed[direct]),
        statistics.median(speed[ours]),
        statistics.median(after / before for before, after in zip(speed[direct], speed[ours], strict=True)),
        cpu_s * 1000 / (streams * (rounds + 1)),
    )


async def probe(direct: Target, ours: Target, pairs: int, rng: random.Random) -> Probes:
    """First tokens of short prompts: a few more follow, so that no end is in the way."""
    first: dict[Target, list[float]] = {direct: [], ours: []}
    for number in range(pairs + 1):
        prompt = " ".join(rng.choices(WORDS, k=3))
        for target in (direct, ours) if number % 2 else (ours, direct):
            first[target].append((await ask(target, prompt, 4)).first_s * 1000)
    quartiles = {target: statistics.quantiles(found[1:], n=4)[:2] for target, found in first.items()}
    (direct_low, direct_middle), (low, middle) = quartiles[direct], quartiles[ours]
    added = statistics.median(after - before for before, after in zip(first[direct][1:], first[ours][1:], strict=True))
    return Probes((direct_low, direct_middle), (low, middle), (low - direct_low, added))


def _ttft_ms(batch: Batch) -> float:
    return statistics.median(answer.first_s for answer in batch.answers) * 1000


def pin(pid: int, core: int) -> None:
    """All threads of a process. Where there is one core only, they share it."""
    cores = sorted(os.sched_getaffinity(0))
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(int(task.name), {cores[core % len(cores)]})


@contextlib.asynccontextmanager
async def alone(path: Path) -> AsyncIterator[Target]:
    """llama.cpp as our backend starts it, without us."""
    key = secrets.token_urlsafe(16)
    settings = LlamaSettings()
    process = LlamaProcess(ChildConfig(str(path), key, SLOTS, CONTEXT, threads=1, step_tokens=settings.step_tokens))
    try:
        url = await process.start()
        assert process.pid is not None
        pin(process.pid, MODEL_CORE)
        host, _, port = url.removeprefix("http://").partition(":")
        yield Target(host, int(port), key)
    finally:
        await process.close()


@contextlib.asynccontextmanager
async def behind_us(path: Path) -> AsyncIterator[Target]:
    """The same behind a node of ours."""
    flags = ("--bind", "127.0.0.1:0", "--slots", str(SLOTS), "--context", str(CONTEXT), "--threads", "1")
    with NodeProcess("--model", f"{MODEL}={path}", *flags) as node:
        url = node.wait_ready()
        async with httpx.AsyncClient() as client:
            with trio.fail_after(60):
                while (await client.get(f"{url}/readyz")).status_code != httpx.codes.OK:  # noqa: ASYNC110 - another process
                    await trio.sleep(0.05)
        pin(node.process.pid, OUR_CORE)
        for child in children_of(node.process.pid):
            pin(child, MODEL_CORE)
        host, _, port = url.removeprefix("http://").partition(":")
        yield Target(host, int(port), "none", node.process.pid)
        node.stop()


async def run(given: argparse.Namespace) -> tuple[Probes, list[Line]]:
    path = given.model or smollm2_path()
    rng = random.Random(given.seed)
    lines: list[Line] = []
    async with alone(path) as direct, behind_us(path) as ours:
        pin(os.getpid(), OUR_CORE)
        probes = await probe(direct, ours, given.pairs, rng)
        print(f"first token of {given.pairs} pairs of short questions, ms: lower quartile and median")
        for name, (low, middle) in (("direct", probes.direct_ms), ("ours", probes.ms), ("added", probes.added_ms)):
            print(f"{name:>7} {low:10.1f} {middle:10.1f}")
        print("          ---- first token, p50, ms ----  ---- tokens per second ----  node's CPU,")
        print("streams     direct       ours      added      direct       ours    ratio  ms/answer")
        for streams in given.streams:
            line = await measure(direct, ours, streams, given.rounds, given.tokens, rng)
            lines.append(line)
            print(
                f"{line.streams:7d} {line.direct_ttft_ms:10.1f} {line.ttft_ms:10.1f} {line.added_ttft_ms:10.2f}"
                f"  {line.direct_tokens_per_s:10.1f} {line.tokens_per_s:10.1f} {line.tokens_ratio:8.1%}"
                f" {line.cpu_ms_per_answer:10.1f}"
            )
    return probes, lines


def main() -> None:
    parser = argparse.ArgumentParser(description="What our layer adds to llama.cpp.")
    parser.add_argument("--model", type=Path, help="a GGUF file [SmolLM2-135M]")
    parser.add_argument("--pairs", type=int, default=60, help="of short questions [60]")
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 4, 8], help="at once [1 4 8]")
    parser.add_argument("--rounds", type=int, default=10, help="of each kind, by turns [10]")
    parser.add_argument("--tokens", type=int, default=64, help="of each answer [64]")
    parser.add_argument("--seed", type=int, default=1, help="of the prompts [1]")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    given = parser.parse_args()
    if max(given.streams) > SLOTS:
        parser.error(f"--streams: there are {SLOTS} slots")
    if given.pairs < 2:
        parser.error("--pairs: at least 2")
    probes, lines = trio.run(run, given)
    if given.json is not None:
        found = {"probes": attrs.asdict(probes), "lines": [attrs.asdict(line) for line in lines]}
        given.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
