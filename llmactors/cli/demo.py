"""`demo`: a stream that survives the death of its model."""

import contextlib
import json
import os
import signal
import time
from typing import Annotated

import attrs
import trio
from cyclopts import Parameter
from rich.console import Console

from llmactors.backends.base import Backend
from llmactors.backends.build import ServedModel, serve_models
from llmactors.backends.llama.backend import LlamaBackend
from llmactors.cli.client import explain
from llmactors.cli.models import fetch_missing
from llmactors.cli.running import set_up_logging
from llmactors.config import load
from llmactors.errors import InternalError, from_code
from llmactors.http.client import HttpClient
from llmactors.http.server import ListeningSocket
from llmactors.http.sse_reader import SseReader
from llmactors.system.node import Node

_JSON = [("Content-Type", "application/json")]
_PATIENCE_S = 600.0
"""How long both answers together may take."""
PROMPT = "Write a short story about a lighthouse keeper who finds a message in a bottle."


def command(
    *,
    model: Annotated[str, Parameter(help="The model to kill, as `serve` takes it.")] = "smollm2-135m",
    prompt: Annotated[str, Parameter(help="The prompt.")] = PROMPT,
    max_tokens: Annotated[int, Parameter(help="The length of the answer, in tokens.")] = 120,
    kill_at: Annotated[int, Parameter(help="The token at which the model's process is killed.")] = 30,
) -> int:
    """Show that a stream survives kill -9 of its model's process.

    The command starts a node, streams an answer, kills the model's process in the middle, and shows how the same stream
    continues. Then it compares the answer with an undisturbed one.
    """
    settings = load({"model": [model], "bind": "127.0.0.1:0", "log_level": "error"}, environ={})
    set_up_logging(settings)
    made: list[Backend] = []
    [served] = serve_models(settings)
    fetch_missing([served])

    def make() -> Backend:
        made.append(served.make())
        return made[-1]

    console = Console(highlight=False)
    with console.status(f"starting {served.name} …"):
        listening = ListeningSocket(settings.bind)
    try:
        node = Node(settings, [ServedModel(served.name, make)], listening)
        trio.run(_demo, node, made, _DemoRun(console, served.name, prompt, max_tokens, kill_at))
    finally:
        listening.close()
    return 0


@attrs.define
class _DemoRun:
    """What the demo shows, and what it has seen of the answer."""

    console: Console
    model: str
    prompt: str
    max_tokens: int
    kill_at: int
    text: str = ""
    tokens: int = 0
    killed: str = ""
    killed_at: float = 0.0
    pause_s: float = 0.0


async def _demo(node: Node, made: list[Backend], run: _DemoRun) -> None:
    async with trio.open_nursery() as nursery:
        await nursery.start(node.run)
        with contextlib.closing(HttpClient(node.listening.url, headers=_JSON)) as client, trio.fail_after(_PATIENCE_S):
            await _watch(client, node, made, run)
            await _compare(client, node, run)
        await node.shut_down()


async def _watch(client: HttpClient, node: Node, made: list[Backend], run: _DemoRun) -> None:
    console = run.console
    console.print(f"[bold]{run.prompt}[/bold]\n")
    body = {"prompt": run.prompt, "max_tokens": run.max_tokens, "temperature": 0, "stream": True}
    reader = SseReader()
    async with await client.open("POST", "/v1/generate", json.dumps(body).encode()) as response:
        while data := await response.receive():
            for event in reader.feed(data):
                payload = json.loads(event.data)
                if event.name == "error":
                    raise from_code(payload["error"]["code"], payload["error"]["message"])
                if event.name == "done":
                    break
                if event.name == "token":
                    _show_token(payload["text"], node, made, run)
    console.print("\n")
    if not run.killed:
        raise InternalError(f"the answer was over after {run.tokens} tokens, before --kill-at {run.kill_at}")


def _show_token(text: str, node: Node, made: list[Backend], run: _DemoRun) -> None:
    """Prints one token, and kills the model after the token that `run` names."""
    if run.killed and not run.pause_s:
        run.pause_s = time.monotonic() - run.killed_at
    run.tokens += 1
    run.text += text
    run.console.print(text, end="", markup=False, soft_wrap=True)
    if run.tokens == run.kill_at:
        run.killed = _kill(node, made[-1], run.model)
        run.killed_at = time.monotonic()
        run.console.print(f" [bold red]⟨{run.killed}⟩[/bold red] ", end="", soft_wrap=True)


def _kill(node: Node, backend: Backend, model: str) -> str:
    """Kills the model's process, or crashes a backend that has none. Returns what was done."""
    pid = backend.statistics().pid if isinstance(backend, LlamaBackend) else None
    if pid is not None:
        os.kill(pid, signal.SIGKILL)
        return f"kill -9 {pid}"
    node.tree.actor(f"node/serving/backends/{model}").crash(RuntimeError("killed by the demo"))
    return "backend crashed"


async def _compare(client: HttpClient, node: Node, run: _DemoRun) -> None:
    """Sends the request again, undisturbed, and prints whether the two answers are the same."""
    console = run.console
    backend = node.tree.actor(f"node/serving/backends/{run.model}").statistics()
    console.print(
        f"The model died at token {run.kill_at}; its supervisor started incarnation #{backend.incarnation}, and the "
        f"same HTTP response went on after {run.pause_s:.1f} s."
    )
    with console.status("asking again, undisturbed …"):
        body = {"prompt": run.prompt, "max_tokens": run.max_tokens, "temperature": 0}
        response = await client.fetch("POST", "/v1/generate", json.dumps(body).encode())
    if response.status != 200:
        raise explain(node.listening.url, response.status, response.body)
    answer = json.loads(response.body)
    if answer["text"] == run.text:
        console.print(
            f"[green]All {run.tokens} tokens are those of an undisturbed run: none lost, none repeated.[/green]"
        )
    else:
        console.print("[red]The answer differs from an undisturbed run.[/red]")
        raise InternalError("the answer that went on differs from an undisturbed run")
