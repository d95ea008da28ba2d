"""`/v1/models`: the models that a caller can use, in a form that has the fields of OpenAI's and of Anthropic's API."""

import time
from datetime import UTC, datetime
from typing import Any

from llmactors.access.authentication import Caller
from llmactors.backends.directory import ModelStatus
from llmactors.gateway.request_service import RequestService
from llmactors.gateway.unknown_model import UnknownModel
from llmactors.http.exchange import Exchange

STARTED_S = int(time.time())
"""The time at which this process began to serve its models, in seconds since 1970."""


async def list_models(service: RequestService, exchange: Exchange, caller: Caller) -> None:
    """`GET /v1/models`."""
    models = [_model(service, name) for name in service.models_for(caller)]
    ids = [model["id"] for model in models]
    page = {"first_id": ids[0] if ids else None, "last_id": ids[-1] if ids else None, "has_more": False}
    await exchange.answer(200, {"object": "list", "data": models, **page})


async def show_model(service: RequestService, exchange: Exchange, caller: Caller) -> None:
    """`GET /v1/models/{model}`. Raises `NotFound` for a model that the caller cannot use."""
    names = service.models_for(caller)
    name = exchange.parameters["model"]
    if name not in names:
        raise UnknownModel(f"there is no such model; there are: {', '.join(names) or 'none'}")
    await exchange.answer(200, _model(service, name))


def _model(service: RequestService, name: str) -> dict[str, Any]:
    status = service.directory.get(name) or ModelStatus()
    return {
        "id": name,
        "object": "model",
        "created": STARTED_S,
        "owned_by": "llmactors",
        "type": "model",
        "display_name": name,
        "created_at": datetime.fromtimestamp(STARTED_S, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "lifecycle": "active",
        "state": status.state.value,
        "detail": status.detail,
        "ready_in_s": status.ready_in_s,
    }
