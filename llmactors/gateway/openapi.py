"""The OpenAPI 3.1 document, made from the table of routes. Pure.

Bodies are described by the types that requests are read with, and errors by the exceptions: their statuses, codes and
docstrings. Source: https://spec.openapis.org/oas/v3.1.1.html.
"""

import functools
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from llmactors import __version__
from llmactors.errors import LlmactorsError
from llmactors.gateway.route import ResponseSpec, Route, Schema

REF = "#/components/schemas/{name}"
JSON, SSE = "application/json", "text/event-stream"


@functools.cache
def encoded_document(routes: tuple[Route, ...]) -> bytes:
    """The document as JSON."""
    return msgspec.json.encode(document(routes))


def document(routes: tuple[Route, ...]) -> dict[str, Any]:
    """The OpenAPI document of `routes`."""
    schemas, shared = _components(routes)
    paths: dict[str, Any] = {}
    for route in routes:
        path = re.sub(r":path\}", "}", route.path)
        paths.setdefault(path, {})[route.method.lower()] = _operation(route, schemas)
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


def query(name: str, description: str, schema: Schema) -> Schema:
    """The Parameter Object of a query parameter."""
    return {"name": name, "in": "query", "description": description, "schema": schema}


def header(name: str, description: str, schema: Schema | None = None) -> Schema:
    """The Parameter Object of a header."""
    return {"name": name, "in": "header", "description": description, "schema": schema or {"type": "string"}}


def path_parameter(name: str, description: str) -> Schema:
    """The Parameter Object of a parameter of the path."""
    schema = {"type": "string", "minLength": 1}
    return {"name": name, "in": "path", "required": True, "description": description, "schema": schema}


def _components(routes: tuple[Route, ...]) -> tuple[dict[Any, Schema], Schema]:
    """The schema of each type that the routes name, and the components that these schemas refer to."""
    types: dict[Any, None] = {}
    for route in routes:
        found = [route.body, route.family.error_body, *(spec.body for spec in route.responses.values())]
        types.update(dict.fromkeys(each for each in found if each is not None))
    schemas, shared = msgspec.json.schema_components(list(types), ref_template=REF)
    for route in routes:
        if route.body_schema:
            own = shared[route.body.__name__]
            properties = own["properties"] | route.body_schema.get("properties", {})
            shared[route.body.__name__] = {**own, **route.body_schema, "properties": properties}
    return dict(zip(types, schemas, strict=True)), shared


def _operation(route: Route, schemas: Mapping[Any, Schema]) -> Schema:
    """The Operation Object of a route."""
    told: Schema = {"operationId": route.name, "tags": [route.family.tag], "summary": route.summary}
    if route.is_open:
        told["security"] = []
    if route.parameters:
        told["parameters"] = list(route.parameters)
    if route.body is not None:
        told["requestBody"] = {"required": True, "content": {JSON: {"schema": schemas[route.body]}}}
    responses = {str(status): _response(spec, schemas) for status, spec in sorted(route.responses.items())}
    told["responses"] = responses | _error_responses(route, schemas)
    return told


def _response(spec: ResponseSpec, schemas: Mapping[Any, Schema]) -> Schema:
    told: Schema = {"description": spec.description, "headers": _headers(limited=spec.limited)}
    content: Schema = {}
    if spec.body is not None:
        content[JSON] = {"schema": schemas[spec.body]}
    if spec.event is not None:
        # OpenAPI 3.1 has no schema for a stream: this is the schema of each event.
        content[SSE] = {"schema": spec.event}
    if spec.media:
        content[spec.media] = {"schema": {"type": "string"}}
    return told | ({"content": content} if content else {})


def _error_responses(route: Route, schemas: Mapping[Any, Schema]) -> Schema:
    by_status: dict[int, list[type[LlmactorsError]]] = {}
    for error in route.errors:
        by_status.setdefault(route.family.errors.status(error), []).append(error)
    return {
        str(status): {
            "description": "\n".join(f"`{error.code}`: {_summary(error)}" for error in errors),
            "headers": _headers(retry=status in {429, 503, 529}, limited=status == 429),
            "content": {JSON: {"schema": schemas[route.family.error_body]}},
        }
        for status, errors in sorted(by_status.items())
        if status not in route.responses
    }


def _headers(*, retry: bool = False, limited: bool = False) -> Schema:
    told = {"X-Request-Id": _header("The id of the request, by which clients follow its stream.", required=True)}
    if retry:
        told["Retry-After"] = _header("The wait before another try, in whole seconds.")
        told["Retry-After-Ms"] = _header("The same wait in milliseconds.")
        told["X-Should-Retry"] = _header("`true` where another try can succeed.")
    if limited:
        for what in ("Limit", "Remaining", "Reset"):
            for unit in ("Requests", "Tokens"):
                told[f"X-RateLimit-{what}-{unit}"] = _header(
                    f"As in OpenAI's API; sent where {unit.lower()} are limited."
                )
        told["RateLimit-Policy"] = _header("The limits of the caller, as in draft-ietf-httpapi-ratelimit-headers.")
        told["RateLimit"] = _header("How much of each limit is left, in the same form.")
    return told


def _header(description: str, *, required: bool = False) -> Schema:
    told: Schema = {"description": description, "schema": {"type": "string"}}
    return told | ({"required": True} if required else {})


def _summary(error: type[LlmactorsError]) -> str:
    return (error.__doc__ or "").partition("\n")[0]
