"""Kill upstreams in the middle of answers: `python -m tests.upstreams.run [--chats 20] [--every 3] [--all] [NAME…]`.

Two upstreams of one kind serve a node. A client asks for each chat once without a kill. Then the client asks for the
chat again, and the upstream that answers, or the worker of a cluster, is killed with SIGKILL: at the third token of the
first chat, at the sixth of the second one, and so on. With `--all` each chat is asked for as often as it has such
tokens. The table says how many of the answers were whole, valid, and equal to the answer without a kill. OpenAI's
Python client is the client. The upstreams are two of llama.cpp's own servers, and doubles of vLLM and SGLang; no cache
of a prompt is kept. Only the rows whose names contain one of the NAMEs are made.
"""

import argparse
import contextlib
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from typing import Any

import attrs
import psutil
import trio

from llmactors.backends.build import serve_model
from llmactors.backends.openai.responses.answer_stream import AnswerStream
from llmactors.testing.cluster import Cluster, ClusterSettings
from llmactors.testing.managed_process import ManagedProcess
from llmactors.testing.node import local_node
from tests.clients.libraries.environments import environment_of
from tests.clients.libraries.table import Client
from tests.support.models import smollm2_path
from tests.upstreams.upstreams import UpstreamProcess

OPENAI = Client(name="openai", packages=("openai>=3,<4",), script="openai_sdk.py")
TOPICS = (
    "the sea at night",
    "a small bakery",
    "how rain forms",
    "the city of Oslo",
    "why cats purr",
    "an old clock",
    "learning to swim",
    "the colour blue",
    "a train journey",
    "making bread",
    "the moon",
    "a lost letter",
    "how bees find flowers",
    "the first snow",
    "a busy market",
    "building a bridge",
    "a quiet library",
    "the history of tea",
    "a walk in the woods",
    "repairing a bicycle",
)
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 20},
        "born": {"type": "string", "pattern": "^[0-9]{4}-[0-9]{2}$"},
        "kind": {"enum": ["cat", "dog-like", "bird"]},
    },
    "required": ["name", "born", "kind"],
    "additionalProperties": False,
}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "pet", "strict": True, "schema": PERSON}}
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 20}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
HERMES = (
    "{% for m in messages %}<|im_start|>{{m['role']}}\n"
    "{% if loop.first and tools %}Tools: {{tools|tojson}} Answer with "
    '<tool_call>\n{"name":…,"arguments":…}\n</tool_call>\n{% endif %}{{m[\'content\']}}<|im_end|>\n{% endfor %}'
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@attrs.frozen
class Row:
    """One kind of upstreams, and one kind of requests."""

    name: str
    upstream: Callable[[], UpstreamProcess]
    options: str
    arguments: dict[str, Any] = attrs.field(factory=dict)
    kills_workers: bool = False
    """Whether workers of a cluster are killed, and not upstreams."""


def llama(*template: str) -> Callable[[], UpstreamProcess]:
    """llama.cpp's own server."""
    return lambda: UpstreamProcess.of("tests.upstreams.llama_server", "PORT", str(smollm2_path()), *template)


def double(engine: str) -> Callable[[], UpstreamProcess]:
    """A double."""
    return lambda: UpstreamProcess.of("tests.support.engines.serve", engine, "PORT", "4")


_SCHEMA: dict[str, Any] = {"response_format": SCHEMA, "max_tokens": 120}
_TOOLS: dict[str, Any] = {"tools": [WEATHER], "tool_choice": "required", "max_tokens": 80}
_AUTO: dict[str, Any] = {"tools": [WEATHER], "max_tokens": 200}
ROWS = (
    Row("llama.cpp by ids", llama(), "engine=llamacpp"),
    Row("llama.cpp by text", llama(), "continue=probe"),
    Row("llama.cpp schema", llama(), "engine=llamacpp", _SCHEMA),
    Row("llama.cpp tools", llama(HERMES), "engine=llamacpp,tools=hermes", _TOOLS),
    Row("vllm by ids", double("vllm"), "engine=vllm"),
    Row("vllm, kills of workers", double("vllm"), "engine=vllm", kills_workers=True),
    Row("vllm tools, kills of workers", double("vllm"), "engine=vllm,tools=hermes", _AUTO, kills_workers=True),
    Row("vllm by text", double("vllm"), "continue=probe"),
    Row("vllm schema", double("vllm"), "engine=vllm", _SCHEMA),
    Row("vllm tools", double("vllm"), "engine=vllm,tools=hermes", _TOOLS),
    Row("vllm tools auto", double("vllm"), "engine=vllm,tools=hermes", _AUTO),
    Row("vllm reads tools", double("vllm"), "engine=vllm", _AUTO),
    Row("sglang by ids", double("sglang"), "engine=sglang"),
    Row("sglang schema, kills of workers", double("sglang"), "engine=sglang", _SCHEMA, kills_workers=True),
    Row("sglang schema", double("sglang"), "engine=sglang", _SCHEMA),
    Row("sglang tools", double("sglang"), "engine=sglang,tools=hermes", _TOOLS),
    Row("sglang tools auto", double("sglang"), "engine=sglang,tools=hermes", _AUTO),
)


@attrs.define
class Tally:
    """The figures of one row."""

    kills: int = 0
    whole: int = 0
    valid: int = 0
    equal: int = 0
    counted: int = 0
    chats: set[int] = attrs.field(factory=set)
    """The chats of which one answer at least was not equal."""
    examples: list[str] = attrs.field(factory=list)

    def add(self, chat: int, reference: dict[str, Any], seen: dict[str, Any]) -> None:
        """Adds one answer."""
        self.kills += 1
        self.whole += not seen["error"] and seen["finish"] == reference["finish"]
        self.valid += _is_valid(seen)
        same = (seen["text"], seen["calls"]) == (reference["text"], reference["calls"])
        self.equal += same
        self.counted += seen["counts"] == reference["counts"]
        if not same:
            self.chats.add(chat)
            self.examples.append(f"chat {chat}: {reference['text']!r} became {seen['text']!r} {seen['error']}")


def _is_valid(seen: dict[str, Any]) -> bool:
    """Whether an answer is whole, and JSON where it must be."""
    try:
        for _, arguments in seen["calls"]:
            json.loads(arguments)
        if seen["text"].lstrip().startswith("{"):
            json.loads(seen["text"])
    except ValueError:
        return bool(seen["finish"] == "length")
    return not seen["error"]


class OpenAIClient:
    """OpenAI's Python client in a process of its own."""

    def __init__(self, url: str) -> None:
        python = environment_of(OPENAI) / "bin" / "python"
        script = OPENAI.path.parents[3] / "upstreams" / "client.py"
        command = [str(python), str(script), f"{url}/v1"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    async def ask(self, arguments: dict[str, Any], at: int, then: Callable[[], None]) -> dict[str, Any]:
        """Asks for one answer. Calls `then` after `at` chunks."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(arguments) + "\n")
        self._process.stdin.flush()
        chunks = 0
        while True:
            line = json.loads(await trio.to_thread.run_sync(self._process.stdout.readline))
            if line["done"]:
                seen: dict[str, Any] = line["seen"]
                return seen | {"chunks": chunks}
            chunks += 1
            if chunks == at:
                then()

    def close(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.wait()


@attrs.frozen
class Served:
    """A server in front of the upstreams, and its victim."""

    url: str
    kill: Callable[[], object]
    """Kills the upstream, or the worker, that answers."""
    mend: Callable[[], Awaitable[None]]
    """Starts again what was killed."""


@contextlib.asynccontextmanager
async def served_by_node(model: str, pair: Sequence[UpstreamProcess]) -> AsyncIterator[Served]:
    """A node in this process. The victims are the upstreams."""
    asked: list[str] = []
    opened = AnswerStream.open

    async def note(upstream: Any, *arguments: Any) -> AnswerStream:
        asked.append(repr(upstream))
        return await opened(upstream, *arguments)

    async def mend() -> None:
        for one in pair:
            if not one.alive:
                await one.start()

    AnswerStream.open = note  # type: ignore[method-assign, assignment]
    try:
        async with local_node(serve_model(model)) as node:
            yield Served(node.url, lambda: next(one for one in pair if one.url in asked[-1]).kill(), mend)
    finally:
        AnswerStream.open = opened  # type: ignore[method-assign]


@contextlib.asynccontextmanager
async def served_by_cluster(model: str, pair: Sequence[UpstreamProcess]) -> AsyncIterator[Served]:
    """A gateway and two workers over Redis. The victims are the workers."""
    ports = {one.port for one in pair}

    def answers(worker: ManagedProcess) -> bool:
        with contextlib.suppress(psutil.Error):
            connections = psutil.Process(worker.pid).net_connections("tcp")
            return any(getattr(each.raddr, "port", 0) in ports for each in connections if each.status == "ESTABLISHED")
        return False

    async with Cluster(ClusterSettings(gateways=1, workers=2, model=model, start_s=120)) as cluster:
        yield Served(
            cluster.gateway_urls[0],
            lambda: next(filter(answers, cluster.workers), cluster.workers[0]).kill(),
            cluster.wait_ready,
        )


async def measure(row: Row, chats: int, every: int, *, everywhere: bool) -> Tally:
    """Makes one row."""
    pair = [row.upstream(), row.upstream()]
    tally = Tally()
    upstreams = "|".join(f"openai:{one.url},model=m" for one in pair)
    model = f"m={upstreams},{row.options},wait_s=10,retries=0"
    try:
        for one in pair:
            await one.start()
        serve = served_by_cluster if row.kills_workers else served_by_node
        async with serve(model, pair) as served:
            await _ask_all(row, served, tally, chats, every, everywhere=everywhere)
    finally:
        for one in pair:
            one.kill()
    return tally


async def _ask_all(row: Row, served: Served, tally: Tally, chats: int, every: int, *, everywhere: bool) -> None:
    client = OpenAIClient(served.url)
    places = range(every, 34, every)
    try:
        for chat in range(chats):
            message = {"role": "user", "content": f"Write about {TOPICS[chat % len(TOPICS)]}."}
            arguments = {"model": "m", "messages": [message], "temperature": 0, "max_tokens": 33} | row.arguments
            reference = await client.ask(arguments, -1, lambda: None)
            if reference["error"]:
                raise SystemExit(f"{row.name}: {reference['error']}")
            # An answer may be shorter than the place of its kill.
            last = (reference["chunks"] - 1) // every * every
            chosen = places if everywhere else places[chat % len(places) :][:1]
            for at in sorted({min(place, last) for place in chosen if last}):
                killed: list[int] = []

                def kill(killed: list[int] = killed) -> None:
                    served.kill()
                    killed.append(1)

                seen = await client.ask(arguments, at, kill)
                if killed:
                    tally.add(chat, reference, seen)
                    await served.mend()
    finally:
        client.close()


def main() -> int:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chats", type=int, default=20)
    parser.add_argument("--every", type=int, default=3)
    parser.add_argument("--all", action="store_true")
    parser.add_argument("names", nargs="*")
    chosen = parser.parse_args()
    print("| upstreams | kills | whole | valid | equal | same counts | chats all equal | s |")
    print("|---|---|---|---|---|---|---|---|")
    failed = False
    for row in ROWS:
        if chosen.names and not any(name in row.name for name in chosen.names):
            continue
        begun = time.monotonic()
        tally = trio.run(partial(measure, row, chosen.chats, chosen.every, everywhere=chosen.all))
        print(
            f"| {row.name} | {tally.kills} | {tally.whole} | {tally.valid} | {tally.equal} | {tally.counted} "
            f"| {chosen.chats - len(tally.chats)}/{chosen.chats} | {time.monotonic() - begun:.0f} |",
            flush=True,
        )
        for example in tally.examples[:4]:
            print(f"  {example}", file=sys.stderr)
        failed = failed or tally.valid < tally.kills
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
