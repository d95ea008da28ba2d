"""Clients of httpx and of openai, each as its users use it: no retry, and each connection kept for some answers."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from typing import Any

import httpx
import openai
import trio

from tests.chaos.keeper.loaders import Plan
from tests.chaos.keeper.plain_clients import ALL
from tests.chaos.keeper.records import PATIENCE_S, Answer, Refusal, fault_of_error
from tests.chaos.keeper.shapes import Oracle, Shape

OF_OPENAI = ["chat stream", "responses stream", "completions stream", "chat JSON", "responses JSON", "logprobs stream"]
SAME_CLIENT = 6
"""After so many answers, a client is made anew, so that connections are made all the time."""
AFTER_FAULT_S = 0.5


def _judge(oracle: Oracle, shape: Shape, prompt: str, answer: Answer, found: bytes | list[Any]) -> None:
    if isinstance(found, bytes):
        answer.fault = oracle.fault_of_body(shape, prompt, found)
    else:
        answer.fault = oracle.fault_of_values(shape, prompt, found)


def _httpx_request(shape: Shape, prompt: str) -> dict[str, Any]:
    headers = {"content-type": "application/json"}
    return {"method": "POST", "url": shape.path, "content": shape.body(prompt), "headers": headers}


def _refuse(status: int, body: bytes) -> None:
    if status != 200:
        raise Refusal(f"{status}: {body[:300]!r}")


def _ask_httpx(client: httpx.Client, shape: Shape, prompt: str, answer: Answer) -> bytes:
    body = b""
    with client.stream(**_httpx_request(shape, prompt)) as response:
        for data in response.iter_bytes():
            answer.heard.append(time.monotonic())
            body += data
    _refuse(response.status_code, body)
    return body


async def _ask_httpx_async(client: httpx.AsyncClient, shape: Shape, prompt: str, answer: Answer) -> bytes:
    body = b""
    async with client.stream(**_httpx_request(shape, prompt)) as response:
        async for data in response.aiter_bytes():
            answer.heard.append(time.monotonic())
            body += data
    _refuse(response.status_code, body)
    return body


def _call_of(client: Any, shape: Shape, prompt: str) -> tuple[Callable[..., Any], dict[str, Any]]:
    """The method of a client of openai that asks for a shape, and its arguments."""
    calls = {
        "/v1/chat/completions": client.chat.completions.create,
        "/v1/completions": client.completions.create,
        "/v1/responses": client.responses.create,
    }
    arguments = {name: prompt if value == "PROMPT" else value for name, value in shape.fields.items()}
    if "messages" in arguments:
        arguments["messages"] = [{"role": "user", "content": prompt}]
    return calls[shape.path], arguments


def _ask_openai(client: openai.OpenAI, shape: Shape, prompt: str, answer: Answer) -> list[Any]:
    call, arguments = _call_of(client, shape, prompt)
    found = call(**arguments)
    if not shape.is_stream:
        return [found.to_dict()]
    values = []
    for event in found:
        answer.heard.append(time.monotonic())
        values.append(event.to_dict())
    return values


async def _ask_openai_async(client: openai.AsyncOpenAI, shape: Shape, prompt: str, answer: Answer) -> list[Any]:
    call, arguments = _call_of(client, shape, prompt)
    found = await call(**arguments)
    if not shape.is_stream:
        return [found.to_dict()]
    values = []
    async for event in found:
        answer.heard.append(time.monotonic())
        values.append(event.to_dict())
    return values


def _sync_client(plan: Plan, oracle: Oracle, kind: str, number: int) -> None:
    make, ask, names = WAYS[kind]
    client = None
    for turn, (shape, prompt, answer) in enumerate(plan.turns(kind, number, names)):
        if client is None or turn % SAME_CLIENT == 0:
            _close(client)
            client = make(plan)
        try:
            _judge(oracle, shape, prompt, answer, ask(client, shape, prompt, answer))
        except Exception as error:  # noqa: BLE001 - whatever a library raises is a fault of the answer
            answer.fault = fault_of_error(error)
        answer.tell()
        if answer.fault:
            _close(client)
            client = None
            time.sleep(AFTER_FAULT_S)
    _close(client)


def _close(client: Any) -> None:
    if client is not None:
        client.close()


async def _async_client(plan: Plan, oracle: Oracle, kind: str, number: int, sleep: Callable[[float], Any]) -> None:
    make, ask, names = WAYS[kind]
    client = None
    for turn, (shape, prompt, answer) in enumerate(plan.turns(kind, number, names)):
        if client is None or turn % SAME_CLIENT == 0:
            await _aclose(client)
            client = make(plan)
        try:
            _judge(oracle, shape, prompt, answer, await ask(client, shape, prompt, answer))
        except Exception as error:  # noqa: BLE001 - whatever a library raises is a fault of the answer
            answer.fault = fault_of_error(error)
        answer.tell()
        if answer.fault:
            await _aclose(client)
            client = None
            await sleep(AFTER_FAULT_S)
    await _aclose(client)


async def _aclose(client: Any) -> None:
    if client is not None:
        with contextlib.suppress(Exception):
            await (client.aclose() if isinstance(client, httpx.AsyncClient) else client.close())


def _openai(make: Callable[..., Any], plan: Plan) -> Any:
    return make(base_url=f"{plan.url}/v1", api_key="none", max_retries=0, timeout=PATIENCE_S)


WAYS: dict[str, tuple[Callable[[Plan], Any], Callable[..., Any], list[str]]] = {
    "httpx sync": (lambda plan: httpx.Client(base_url=plan.url, timeout=PATIENCE_S), _ask_httpx, ALL),
    "httpx async": (lambda plan: httpx.AsyncClient(base_url=plan.url, timeout=PATIENCE_S), _ask_httpx_async, ALL),
    "openai sync": (lambda plan: _openai(openai.OpenAI, plan), _ask_openai, OF_OPENAI),
    "openai async": (lambda plan: _openai(openai.AsyncOpenAI, plan), _ask_openai_async, OF_OPENAI),
}
"""How a client of each kind is made, how it asks, and for what."""


def run_threads(plan: Plan) -> None:
    """Runs the clients of a plan in a thread each."""
    oracle = plan.oracle
    threads = [threading.Thread(target=_sync_client, args=(plan, oracle, *each)) for each in plan.every_client()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def run_trio(plan: Plan) -> None:
    """Runs the clients of a plan in an event loop of Trio."""

    async def run_all() -> None:
        oracle = plan.oracle
        async with trio.open_nursery() as nursery:
            for kind, number in plan.every_client():
                nursery.start_soon(_async_client, plan, oracle, kind, number, trio.sleep)

    trio.run(run_all)


def run_asyncio(plan: Plan) -> None:
    """Runs the clients of a plan in an event loop of asyncio."""

    async def run_all() -> None:
        oracle = plan.oracle
        await asyncio.gather(
            *(_async_client(plan, oracle, kind, number, asyncio.sleep) for kind, number in plan.every_client())
        )

    asyncio.run(run_all())
