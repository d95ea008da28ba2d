"""What the scripts share: each attempt of a feature, and the line of JSON that says how the attempt ended.

The scripts run in environments without llmactors and its tests.
"""

import asyncio
import inspect
import json
import os
import signal
import traceback
import urllib.request
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

MOCK_URL = os.environ.get("MOCK_URL", "")
MODEL_URL = os.environ.get("MODEL_URL", "")
MODEL_PID = os.environ.get("MODEL_PID", "")
"""The id of the process that serves the default model."""
MOCK = "mock"
AGENT = "agent"
"""A mock that ends an answer of its own accord after about 16 words."""
MODEL = "smollm2-135m"
WEATHER_SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    "required": ["city", "days"],
    "additionalProperties": False,
}
SHORT_WEATHER_SCHEMA = {
    **WEATHER_SCHEMA,
    "properties": {"city": {"type": "string", "maxLength": 20}, "days": {"enum": [1, 2, 3]}},
}
"""A schema whose answers are short: the small default model does not end long texts."""
WEATHER_TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city",
        "parameters": WEATHER_SCHEMA,
        "strict": True,
    },
}
_attempts: list[tuple[str, Callable[[], Any]]] = []


def attempt(feature: str) -> Callable[[Callable[[], Any]], Callable[[], Any]]:
    """Marks a function that tries a feature. Several functions may try the same feature; then all of them must pass."""

    def mark(function: Callable[[], Any]) -> Callable[[], Any]:
        _attempts.append((feature, function))
        return function

    return mark


def report(feature: str, name: str, error: str = "", note: str = "") -> None:
    """Prints one result. `note` stands below the table."""
    print("\n" + json.dumps({"feature": feature, "attempt": name, "error": error, "note": note}), flush=True)


def run_attempts() -> None:
    """Makes all attempts, one after the other, and prints how each ended."""
    # Some libraries keep connections from one attempt to the next, and these belong to one event loop.
    with asyncio.Runner() as runner:
        _run_attempts(runner)


def _run_attempts(runner: asyncio.Runner) -> None:
    for feature, function in _attempts:
        try:
            result = function()
            if inspect.iscoroutine(result):
                result = runner.run(result)
        except Exception as error:  # noqa: BLE001 - whatever a library raises is a result
            where = traceback.extract_tb(error.__traceback__)
            line = next((each.lineno for each in reversed(where) if each.filename == function.__code__.co_filename), 0)
            report(feature, function.__name__, f"line {line}: {type(error).__name__}: {error}"[:1500])
        else:
            report(feature, function.__name__, note=result if isinstance(result, str) else "")


def check(condition: object, found: object = "") -> None:
    """Raises `AssertionError` with what was found, also where Python runs without assertions."""
    if not condition:
        raise AssertionError(f"found {found!r}")


def check_weather(arguments: str | dict[str, Any]) -> None:
    """Checks the arguments of a call of `get_weather`."""
    fields = json.loads(arguments) if isinstance(arguments, str) else arguments
    check(isinstance(fields["city"], str) and isinstance(fields["days"], int), fields)


def restarts(model: str, url: str = MOCK_URL) -> int:
    """How often the backend of a model was started again. `url` is that of its node."""
    with urllib.request.urlopen(f"{url}/metrics") as answer:
        text = answer.read().decode()
    name = f'llmactors_actor_restarts_total{{actor="node/serving/backends/{model}"}} '
    return next((int(float(line.removeprefix(name))) for line in text.splitlines() if line.startswith(name)), 0)


def kill_child() -> None:
    """Kills the child process of the default model's node, as `kill -9` does: the process of llama.cpp."""
    [child] = Path(f"/proc/{MODEL_PID}/task/{MODEL_PID}/children").read_text(encoding="ascii").split()
    os.kill(int(child), signal.SIGKILL)


def first_that(prompts: Iterable[str], result_of: Callable[[str], Any]) -> Any:
    """The result for the first of the prompts that has one.

    Whether the mock calls a tool of its own accord depends on the prompt.
    """
    for prompt in prompts:
        if (result := result_of(prompt)) is not None:
            return result
    raise AssertionError("no prompt led to what was wanted")


PROMPTS = tuple(f"What is the weather like in town {number}?" for number in range(24))
