"""The gateway of the original design: FastAPI on uvicorn. A request becomes a job in a list and a subscription."""

import asyncio
import contextlib
import json
import logging
import os
import socket
import uuid
from collections.abc import AsyncIterator
from typing import Annotated, Any

import redis.asyncio
import uvicorn
from fastapi import FastAPI, Header, HTTPException
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, Field

QUEUE = "llm:queue"
CHANNEL = "llm:stream:"
MAX_CONNECTIONS = 8192
REQUEST_S = 120.0
"""The gateway ends a stream after this time."""

log = logging.getLogger("origin")


class Request(BaseModel):
    """The body of `POST /v1/generate`."""

    prompt: str = Field(min_length=1)
    max_tokens: int = Field(default=64, ge=1, le=8192)
    temperature: float = 0.7
    seed: int | None = None
    stream: bool = False


def create_app(url: str) -> FastAPI:
    """The application on the Redis at `url`, without a rate limit."""
    # A body of any content type is read as JSON, as llmactors does.
    app = FastAPI(openapi_url=None, strict_content_type=False)
    # Each stream holds a connection, and redis-py 8 allows 100 connections by default.
    client = redis.asyncio.Redis.from_url(url, max_connections=MAX_CONNECTIONS)
    api_key = os.environ.get("GATEWAY_API_KEY")

    @app.post("/v1/generate")
    async def generate(body: Request, x_api_key: Annotated[str | None, Header()] = None) -> Any:
        if api_key and x_api_key != api_key:
            raise HTTPException(401, "invalid API key")
        request_id = uuid.uuid4().hex
        pubsub = client.pubsub()
        try:
            await pubsub.subscribe(CHANNEL + request_id)
            job = {"id": request_id, "prompt": body.prompt, "seed": body.seed, "max_tokens": body.max_tokens}
            await client.rpush(QUEUE, json.dumps(job))
        except redis.RedisError:
            await pubsub.aclose()  # type: ignore[no-untyped-call]
            unavailable = {"error": {"code": "UNAVAILABLE"}}
            return JSONResponse(unavailable, status_code=503, headers={"Retry-After": "1"})
        headers = {"X-Request-Id": request_id}
        return StreamingResponse(_events(pubsub), media_type="text/event-stream", headers=headers)

    return app


async def _events(pubsub: Any) -> AsyncIterator[str]:
    try:
        async with asyncio.timeout(REQUEST_S):
            async for message in pubsub.listen():
                if message["type"] != "message":
                    continue
                payload = json.loads(message["data"])
                name = payload["event"]
                yield f"id: {payload['seq']}\nevent: {name}\ndata: {json.dumps(payload)}\n\n"
                if name != "token":
                    return
    except redis.RedisError as error:
        log.warning("stream cut: Redis failed with %r", error)
    finally:
        with contextlib.suppress(redis.RedisError):
            await pubsub.aclose()


def run(url: str, host: str, port: int, name: str) -> None:
    """Serve until a signal arrives. The first line of output ends with the address."""
    bound = socket.create_server((host, port), backlog=2048)
    print(f"llmactors-origin gateway {name} on http://{host}:{bound.getsockname()[1]}", flush=True)
    config = uvicorn.Config(
        create_app(url), loop="uvloop", http="httptools", lifespan="off", access_log=False, log_level="warning"
    )
    uvicorn.Server(config).run(sockets=[bound])
