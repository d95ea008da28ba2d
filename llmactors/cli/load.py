"""`load`: put a load on a server, check its answers, and say how fast it is."""

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import msgspec
from cyclopts import Parameter
from rich.console import Console

from llmactors.cli.client import API_KEY, URL, get_json
from llmactors.errors import ConfigError, LlmactorsError, ModelError
from llmactors.load.measure import measure
from llmactors.load.plan import MAX_REQUESTS, Api, Check, Plan
from llmactors.load.progress import ProgressBar
from llmactors.load.report import exit_code
from llmactors.load.table import show
from llmactors.load.target import Target

JSON = Annotated[
    str | None,
    Parameter(
        name=["--json", "--out"],
        help="Write all figures to this file; - is standard output.",
        allow_leading_hyphen=True,
    ),
]
_REQUESTS, _LIMIT_S = 600, 60.0
_OPENAI = (Api.CHAT, Api.COMPLETIONS)


def command(
    url: URL = "http://127.0.0.1:8000",
    /,
    *,
    clients: Annotated[
        int | None,
        Parameter(name=["--clients", "--concurrency"], help="Requests at a time. [60; 10000 with --rate]"),
    ] = None,
    requests: Annotated[int | None, Parameter(help="How many in all. [600; no end with --seconds]")] = None,
    max_tokens: Annotated[int, Parameter(help="Tokens per answer.")] = 64,
    api: Annotated[Api, Parameter(help="Which routes to ask.")] = Api.NATIVE,
    stream: Annotated[bool | None, Parameter(help="Token by token, or whole answers. [token by token]")] = None,
    model: Annotated[str | None, Parameter(help="Which of the server's models. [its first]")] = None,
    key: Annotated[API_KEY, Parameter(name=["--key", "--api-key"])] = None,
    rate: Annotated[
        float | None,
        Parameter(
            help="An open loop: so many requests arrive per second, at random. Without it, each client's next "
            "request follows its last answer."
        ),
    ] = None,
    seed: Annotated[int, Parameter(help="Of the arrivals.")] = 1,
    seconds: Annotated[float | None, Parameter(help="No new requests after this.")] = None,
    ramp_s: Annotated[float, Parameter(help="Clients begin one by one over this time.")] = 0.0,
    warmup: Annotated[int, Parameter(help="Requests before the clock starts.")] = 0,
    prompt: Annotated[str, Parameter(help="What all prompts begin with; a number follows.")] = "load",
    check: Annotated[Check, Parameter(help="mock: each token must be the simulated backend's.")] = Check.SHAPE,
    new_connections: Annotated[bool, Parameter(help="A connection for each request.", negative=())] = False,
    limit_s: Annotated[float | None, Parameter(help="Break off after this. [60; 60 more than --seconds]")] = None,
    stall_s: Annotated[float, Parameter(help="A request that receives nothing for so long has failed.")] = 20.0,
    core: Annotated[int | None, Parameter(help="Run on this core.")] = None,
    server_pid: Annotated[
        list[int] | None, Parameter(help="Also report what this process computes. Repeatable.", negative=())
    ] = None,
    json: JSON = None,
    synthetic: Annotated[bool, Parameter(help="No server: the actors alone, in this process.", negative=())] = False,
    allow_remote: Annotated[bool, Parameter(help="Load a server on another machine.", negative=())] = False,
) -> int:
    """Put a load on a server, check every answer, and show how fast it is.

    Exits with 0 if all answers were whole, with 1 if any was not. Ctrl-C ends it with the figures so far.
    """
    if requests is None:
        requests = _REQUESTS if seconds is None else MAX_REQUESTS
    if limit_s is None:
        limit_s = _LIMIT_S + (seconds or 0.0)
    check_writable(json)
    cores = pin(core)
    if synthetic:
        if rate is not None or seconds is not None or ramp_s or api is not Api.NATIVE:
            raise ConfigError("`synthetic` has no routes and no arrivals: leave out --api, --rate, --seconds, --ramp-s")
        # Only here: this imports half of the server.
        from llmactors.cli import synthetic_load  # noqa: PLC0415
        from llmactors.telemetry import configure_logging  # noqa: PLC0415

        configure_logging(json=False, level="error", stream=sys.stderr)
        result = synthetic_load.measure(
            clients=60 if clients is None else clients,
            requests=requests,
            max_tokens=max_tokens,
            stream=stream is not False,
            model=model,
            limit_s=limit_s,
        )
        return finish(result, json)
    target = Target.parse(url, allow_remote=allow_remote)
    if api in _OPENAI and model is None:
        model = first_model(target, key)
    plan = Plan(
        target=target,
        api=_with_stream(api, stream),
        stream=stream is not False,
        model=model,
        key=key,
        check=check,
        clients=(60 if rate is None else 10_000) if clients is None else clients,
        requests=requests,
        max_tokens=max_tokens,
        prompt=prompt,
        rate=rate,
        seed=seed,
        ramp_s=ramp_s,
        seconds=seconds,
        limit_s=limit_s,
        stall_s=stall_s,
        keep_alive=not new_connections,
    )
    with ProgressBar(plan, cores=cores) as bar:
        result = measure(plan, warmup=warmup, server_pids=server_pid or (), on_progress=bar if bar.draws else None)
    return finish(result, json)


def finish(result: dict[str, Any], json: str | None) -> int:
    """Shows the figures, writes them where asked for, and returns the exit code."""
    show(result, console(json))
    write(result, json)
    return exit_code(result)


def console(json: str | None) -> Console:
    """Where tables go: to standard output, unless that is for JSON. Lines are broken for a terminal only."""
    shown = Console(stderr=json == "-", highlight=False)
    shown.soft_wrap = not shown.is_terminal
    return shown


def check_writable(json: str | None) -> None:
    """Before the run, which may be long. Raises `ConfigError`."""
    if json is not None and json != "-":
        try:
            with Path(json).open("ab"):
                pass
        except OSError as error:
            raise ConfigError(f"`json`: {json} cannot be written: {error.strerror}") from error


def write(figures: dict[str, Any], json: str | None) -> None:
    """As JSON, to a file, or to standard output where it is named -."""
    if json == "-":
        sys.stdout.write(msgspec.json.encode(figures).decode() + "\n")
        sys.stdout.flush()
    elif json is not None:
        Path(json).write_bytes(msgspec.json.format(msgspec.json.encode(figures), indent=1) + b"\n")


def pin(core: int | None) -> set[int]:
    """Has this process run on one core. Returns the cores that are left for others. Raises `ConfigError`."""
    available = os.sched_getaffinity(0)
    if core is None:
        return set()
    if core not in available:
        raise ConfigError(f"`core`: there is no core {core} here; there are {', '.join(map(str, sorted(available)))}")
    os.sched_setaffinity(0, {core})
    return available - {core} or available


def first_model(target: Target, key: str | None) -> str:
    """What an OpenAI server serves. Raises `ModelError` where it does not say so."""
    try:
        answer: Any = get_json(target.url, "/v1/models", key)
        return str(answer["data"][0]["id"])
    except (LlmactorsError, LookupError, TypeError) as error:
        raise ModelError(f"{target.url} does not say which models it has ({error}); name one with --model") from error


def _with_stream(api: Api, stream: bool | None) -> Api:
    if stream and api is Api.NATIVE_JSON:
        raise ConfigError("`api`: native-json does not stream; leave out --stream, or ask for native")
    if stream is False and api is Api.WS:
        raise ConfigError("`api`: on a WebSocket everything streams; leave out --no-stream")
    return Api.NATIVE_JSON if stream is False and api is Api.NATIVE else api
