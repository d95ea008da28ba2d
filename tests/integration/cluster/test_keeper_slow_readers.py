"""Slow clients of a gateway that is killed when the logs of their answers would be gone, if nobody read them."""

import contextlib
import json
import os
import signal
import socket
import time
from typing import Any

import httpx
import pytest
import trio
import trio_websocket

from llmactors.cli.keeping import RunningKeeper
from tests.support.kept_gateway import gateway_below_keeper, keeper_at, text_of, wait_takeover

pytestmark = [pytest.mark.integration, pytest.mark.keeper, pytest.mark.timeout(300)]

TOKENS = 3000
RETENTION_S = 3.0
LONG_AGO_S = 2.5 * RETENTION_S
BRIEF = {"LLMACTORS_RETENTION_S": str(RETENTION_S), "LLMACTORS_WRITE_S": "300"}


async def slow_stream(url: str) -> trio.SocketStream:
    """A connection whose client has little room for what it has not read."""
    raw = trio.socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2304)
    parts = httpx.URL(url)
    await raw.connect((parts.host, parts.port))
    return trio.SocketStream(raw)


async def wait_ended(url: str, *ids: str) -> None:
    """Waits until these answers have ended, and then until any log that nobody reads is gone."""
    async with httpx.AsyncClient(base_url=url) as client:
        with trio.fail_after(120):
            for each in ids:
                while (await client.get(f"/v1/streams/{each}?status")).json()["state"] != "ended":  # noqa: ASYNC110
                    await trio.sleep(0.05)
            end = time.monotonic() + LONG_AGO_S
            while time.monotonic() < end:
                other = (await client.post("/v1/generate", json={"prompt": "other", "max_tokens": 1})).json()["id"]
                while (await client.get(f"/v1/streams/{other}?status")).status_code != 410:  # noqa: ASYNC110
                    await trio.sleep(0.05)
            for each in ids:
                assert (await client.get(f"/v1/streams/{each}?status")).status_code == 200


async def kill(keeper: RunningKeeper) -> None:
    os.kill(keeper.status.active, signal.SIGKILL)
    await trio.to_thread.run_sync(wait_takeover, keeper)


async def test_slow_clients_outlive_the_retention_and_their_gateway() -> None:
    """One reads events, and one follows two streams on a WebSocket. After their ends, the logs are gone as usual."""
    with gateway_below_keeper(step_ms=1, environ=BRIEF) as url:
        keeper = await trio.to_thread.run_sync(keeper_at, url)
        async with contextlib.AsyncExitStack() as stack, trio.open_nursery() as nursery:
            events, frames = await slow_stream(url), await slow_stream(url)
            stack.push_async_callback(events.aclose)
            body = json.dumps({"prompt": "events", "stream": True, "max_tokens": TOKENS})
            head = "POST /v1/generate HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n"
            await events.send_all(f"{head}content-length: {len(body)}\r\n\r\n{body}".encode())
            answer = b""
            while b"\r\n\r\n" not in answer:
                answer += await events.receive_some(1024)
            [of_events] = [
                line[13:].strip() for line in answer.split(b"\r\n") if line.lower().startswith(b"x-request-id")
            ]
            where = httpx.URL(url)
            web = await trio_websocket.wrap_client_stream(nursery, frames, f"{where.host}:{where.port}", "/v1/ws")
            for prompt in ("one", "two"):
                await web.send_message(
                    json.dumps({"op": "generate", "prompt": prompt, "max_tokens": TOKENS, "ref": prompt})
                )
            heard: list[dict[str, Any]] = []
            while sum(event["event"] == "accepted" for event in heard) < 2:
                heard.append(json.loads(await web.get_message()))
            prompt_of = {event["id"]: event["ref"] for event in heard if event["event"] == "accepted"}
            ids = of_events.decode(), *prompt_of
            await wait_ended(url, *ids)
            await kill(keeper)
            for stream in (events, frames):
                stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)  # now they read fast
            while sum(event["event"] == "done" for event in heard) < 2:
                with trio.fail_after(60):
                    heard.append(json.loads(await web.get_message()))
            while data := await events.receive_some():
                answer += data
            await web.aclose()
        for request_id, prompt in prompt_of.items():
            found = [event for event in heard if event["id"] == request_id and event["event"] in {"token", "done"}]
            assert [event["seq"] for event in found] == list(range(1, TOKENS + 2))
            assert "".join(event.get("text", "") for event in found) == text_of(prompt, TOKENS)
        texts = [json.loads(line[6:]).get("text", "") for line in body_of(answer).splitlines() if line[:6] == "data: "]
        assert "".join(texts) == text_of("events", TOKENS)
        with trio.fail_after(60):
            async with httpx.AsyncClient(base_url=url) as client:
                for each in ids:
                    while (await client.get(f"/v1/streams/{each}?status")).status_code != 410:  # noqa: ASYNC110
                        await trio.sleep(0.1)


def body_of(answer: bytes) -> str:
    """The body of an answer in chunks."""
    rest, body = answer.partition(b"\r\n\r\n")[2], b""
    while True:
        size, _, rest = rest.partition(b"\r\n")
        if not int(size, 16):
            return body.decode()
        body, rest = body + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
