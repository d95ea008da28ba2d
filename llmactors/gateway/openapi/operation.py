"""What is told of one route, and how that becomes a part of an OpenAPI 3.1 document. Pure.

Bodies are described by the very types that requests are read with, and errors by the exceptions: their statuses, codes
and docstrings. Source: https://spec.openapis.org/oas/v3.1.1.html.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import attrs
import msgspec

from llmactors.errors import LlmactorsError

REF = "#/components/schemas/{name}"
JSON, SSE = "application/json", "text/event-stream"

Schema = dict[str, Any]


@attrs.frozen(kw_only=True)
class Answer:
    """What a status brings."""

    description: str
    body: Any = None
    """The type of its JSON; None: it has none."""
    event: Schema | None = None
    """The fields of each of its server-sent events, where it can be a stream."""
    media: str = ""
    """The content type of a body that is neither."""
    rated: bool = False
    """It tells what is left of the caller's limit, where there is one."""


@attrs.frozen(kw_only=True)
class Operation:
    """One method of one path."""

    method: str
    path: str
    name: str
    tag: str
    summary: str
    answers: Mapping[int, Answer]
    errors: tuple[type[LlmactorsError], ...] = ()
    error_body: Any = None
    """The type of the JSON that errors come in."""
    body: Any = None
    """The type of the JSON that is sent."""
    parameters: tuple[Schema, ...] = ()
    is_open: bool = False
    """No key is asked for, also where the node has one."""

    def types(self) -> list[Any]:
        """All types that its description refers to."""
        found = [self.body, self.error_body, *(answer.body for answer in self.answers.values())]
        return [each for each in found if each is not None]

    def describe(self, schemas: Mapping[Any, Schema]) -> Schema:
        """Its Operation Object."""
        told: Schema = {"operationId": self.name, "tags": [self.tag], "summary": self.summary}
        if self.is_open:
            told["security"] = []
        if self.parameters:
            told["parameters"] = list(self.parameters)
        if self.body is not None:
            told["requestBody"] = {"required": True, "content": {JSON: {"schema": schemas[self.body]}}}
        answers = {str(status): _describe(answer, schemas) for status, answer in sorted(self.answers.items())}
        told["responses"] = answers | self._describe_errors(schemas)
        return told

    def _describe_errors(self, schemas: Mapping[Any, Schema]) -> Schema:
        by_status: dict[int, list[type[LlmactorsError]]] = {}
        for error in self.errors:
            by_status.setdefault(error.status, []).append(error)
        return {
            str(status): {
                "description": "\n".join(f"`{error.code}`: {_summary(error)}" for error in errors),
                "headers": _headers(retry=status in {429, 503}, rated=status == 429),
                "content": {JSON: {"schema": schemas[self.error_body]}},
            }
            for status, errors in sorted(by_status.items())
        }


def components(operations: Iterable[Operation], tighten: Mapping[str, Schema]) -> tuple[dict[Any, Schema], Schema]:
    """The schema of each type, and the components that they refer to.

    `tighten`: what to add to the schemas of some types, by their names, that the types cannot say.
    """
    types = list(dict.fromkeys(each for operation in operations for each in operation.types()))
    schemas, found = msgspec.json.schema_components(types, ref_template=REF)
    for name, more in tighten.items():
        found[name] = {**found[name], **more, "properties": found[name]["properties"] | more.get("properties", {})}
    return dict(zip(types, schemas, strict=True)), found


def query(name: str, description: str, schema: Schema) -> Schema:
    """A Parameter Object of a query."""
    return {"name": name, "in": "query", "description": description, "schema": schema}


def header(name: str, description: str, schema: Schema | None = None) -> Schema:
    """A Parameter Object of a header."""
    return {"name": name, "in": "header", "description": description, "schema": schema or {"type": "string"}}


def path_id(name: str, description: str) -> Schema:
    """A Parameter Object of a part of the path."""
    schema = {"type": "string", "minLength": 1}
    return {"name": name, "in": "path", "required": True, "description": description, "schema": schema}


def _describe(answer: Answer, schemas: Mapping[Any, Schema]) -> Schema:
    told: Schema = {"description": answer.description, "headers": _headers(rated=answer.rated)}
    content: Schema = {}
    if answer.body is not None:
        content[JSON] = {"schema": schemas[answer.body]}
    if answer.event is not None:
        # OpenAPI 3.1 cannot say it better: this is the schema of each event, not of all of them.
        content[SSE] = {"schema": answer.event}
    if answer.media:
        content[answer.media] = {"schema": {"type": "string"}}
    return told | ({"content": content} if content else {})


def _headers(*, retry: bool = False, rated: bool = False) -> Schema:
    told = {"X-Request-Id": _header("The request's id, which its stream is followed by.", required=True)}
    if retry:
        told["Retry-After"] = _header("When to come again, in whole seconds.")
        told["Retry-After-Ms"] = _header("The same in milliseconds.")
        told["X-Should-Retry"] = _header("`true` where coming again can help.")
    if rated:
        for what in ("Limit", "Remaining", "Reset"):
            for unit in ("Requests", "Tokens"):
                told[f"X-RateLimit-{what}-{unit}"] = _header(f"As OpenAI's; sent where {unit.lower()} are limited.")
        told["RateLimit-Policy"] = _header("Each limit of the caller, as in draft-ietf-httpapi-ratelimit-headers.")
        told["RateLimit"] = _header("How the caller stands with each, in the same form.")
    return told


def _header(description: str, *, required: bool = False) -> Schema:
    told: Schema = {"description": description, "schema": {"type": "string"}}
    return told | ({"required": True} if required else {})


def _summary(error: type[LlmactorsError]) -> str:
    return (error.__doc__ or "").partition("\n")[0]
