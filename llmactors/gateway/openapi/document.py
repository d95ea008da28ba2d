"""All routes, as one document. Pure."""

import functools
from typing import Any

import msgspec
from quart import Response
from quart_trio import QuartTrio

from llmactors import __version__
from llmactors.gateway.openapi import compatible, native, operators, responses
from llmactors.gateway.openapi.operation import components

OPERATIONS = (*native.OPERATIONS, *compatible.OPERATIONS, *responses.OPERATIONS, *operators.OPERATIONS)
"""Whoever adds a route adds it here."""
_TIGHTEN: dict[str, Any] = {"GenerateBody": {"additionalProperties": False}, **compatible.TIGHTEN, **responses.TIGHTEN}


def document() -> dict[str, Any]:
    """The OpenAPI 3.1 document."""
    schemas, shared = components(OPERATIONS, _TIGHTEN)
    paths: dict[str, Any] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method] = operation.describe(schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "llmactors",
            "version": __version__,
            "description": "LLM serving that loses no accepted request and no token.",
        },
        # A key is asked for only where the operator has set one.
        "security": [{}, {"bearer": []}, {"key": []}],
        "paths": paths,
        "components": {
            "schemas": shared,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            },
        },
    }


@functools.cache
def _encoded() -> bytes:
    return msgspec.json.encode(document())


def add_routes(app: QuartTrio) -> None:
    """`/openapi.json`."""

    @app.get("/openapi.json")
    async def openapi() -> Response:
        return Response(_encoded(), content_type="application/json")
