"""`load`: put a load on a server, check its answers, and show how fast the server is."""

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
        help="Write all figures as JSON to this file. - is standard output.",
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
        Parameter(
            name=["--clients", "--concurrency"],
            help="How many requests run at a time. By default 60, and with --rate 10000.",
        ),
    ] = None,
    requests: Annotated[
        int | None, Parameter(help="How many requests to send. By default 600, and with --seconds any number.")
    ] = None,
    max_tokens: Annotated[int, Parameter(help="The length of each answer, in tokens.")] = 64,
    api: Annotated[Api, Parameter(help="The routes to send requests to.")] = Api.NATIVE,
    stream: Annotated[
        bool | None, Parameter(help="Whether answers come token by token, or whole. By default, token by token.")
    ] = None,
    model: Annotated[str | None, Parameter(help="The model to ask. By default, the first model of the server.")] = None,
    key: Annotated[API_KEY, Parameter(name=["--key", "--api-key"])] = None,
    rate: Annotated[
        float | None,
        Parameter(
            help="How many requests per second arrive, at random times (an open loop). By default, each client sends "
            "its next request after its last answer."
        ),
    ] = None,
    seed: Annotated[int, Parameter(help="The seed of the random times of --rate.")] = 1,
    seconds: Annotated[float | None, Parameter(help="Send no new requests after this time.")] = None,
    ramp_s: Annotated[float, Parameter(help="Let the clients begin one by one over this time.")] = 0.0,
    warmup: Annotated[int, Parameter(help="How many requests to send before the measurement begins.")] = 0,
    prompt: Annotated[str, Parameter(help="The beginning of each prompt. A number follows.")] = "load",
    check: Annotated[
        Check,
        Parameter(help="How answers are checked. shape: all events, in order. mock: also each token of a mock model."),
    ] = Check.SHAPE,
    new_connections: Annotated[
        bool, Parameter(help="Open a connection for each request.", negative=(), show_default=False)
    ] = False,
    limit_s: Annotated[
        float | None,
        Parameter(help="End the measurement after this time. By default, after 60 s, and 60 s after --seconds."),
    ] = None,
    stall_s: Annotated[float, Parameter(help="A request that receives nothing for this long has failed.")] = 20.0,
    core: Annotated[int | None, Parameter(help="The core on which the command runs. By default, any.")] = None,
    server_pid: Annotated[
        list[int] | None,
        Parameter(help="Also report the CPU time of this process. Repeat the flag for more processes.", negative=()),
    ] = None,
    json: JSON = None,
    synthetic: Annotated[
        bool,
        Parameter(help="Measure the actors alone, in this process, without a server.", negative=(), show_default=False),
    ] = False,
    allow_remote: Annotated[
        bool, Parameter(help="Allow a server on another machine.", negative=(), show_default=False)
    ] = False,
) -> int:
    """Put a load on a server, check every answer, and show how fast the server is.

    The exit code is 0 if all answers were whole, and 1 if any was not. Ctrl-C ends the measurement with the figures so
    far.
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
    shown = console(json)
    show(result, shown)
    if "http_401" in result["errors"]:
        shown.print("the server refused the API key: give a key that it knows with --api-key or GATEWAY_API_KEY")
    write(result, json)
    return exit_code(result)


def console(json: str | None) -> Console:
    """The console for tables: standard output, or standard error where the JSON goes to standard output.

    Lines are broken for a terminal only.
    """
    shown = Console(stderr=json == "-", highlight=False)
    shown.soft_wrap = not shown.is_terminal
    return shown


def check_writable(json: str | None) -> None:
    """Checks before the measurement, which may be long, that the JSON can be written. Raises `ConfigError`."""
    if json is not None and json != "-":
        try:
            with Path(json).open("ab"):
                pass
        except OSError as error:
            raise ConfigError(f"`json`: {json} cannot be written: {error.strerror}") from error


def write(figures: dict[str, Any], json: str | None) -> None:
    """Writes `figures` as JSON to the file `json`; - is standard output, and None is nowhere."""
    if json == "-":
        sys.stdout.write(msgspec.json.encode(figures).decode() + "\n")
        sys.stdout.flush()
    elif json is not None:
        Path(json).write_bytes(msgspec.json.format(msgspec.json.encode(figures), indent=1) + b"\n")


def pin(core: int | None) -> set[int]:
    """Lets this process run on one core, and returns the cores left for others. Raises `ConfigError`."""
    available = os.sched_getaffinity(0)
    if core is None:
        return set()
    if core not in available:
        raise ConfigError(f"`core`: there is no core {core} here; there are {', '.join(map(str, sorted(available)))}")
    os.sched_setaffinity(0, {core})
    return available - {core} or available


def first_model(target: Target, key: str | None) -> str:
    """The first model that an OpenAI server lists. Raises `ModelError` where the server lists none."""
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
