"""The routes for orchestrators, scrapers and people who look after a node."""

from typing import Any

from llmactors.errors import InternalError
from llmactors.gateway.openapi.answers import Alive, Error, Health, Readiness, TreePart
from llmactors.gateway.openapi.native import KEYED
from llmactors.gateway.openapi.operation import Answer, Operation

_METRICS = "text/plain"


def _operation(path: str, name: str, summary: str, answers: dict[int, Answer], *, is_open: bool = True) -> Operation:
    return Operation(
        method="get",
        path=path,
        name=name,
        tag="operators",
        summary=summary,
        answers=answers,
        errors=(InternalError,) if is_open else KEYED,
        error_body=Error,
        is_open=is_open,
    )


OPERATIONS = (
    _operation("/livez", "live", "Whether the process answers", {200: Answer(description="It does", body=Alive)}),
    _operation(
        "/readyz",
        "ready",
        "Whether to send requests here",
        {200: Answer(description="Yes", body=Readiness), 503: Answer(description="Not now", body=Readiness)},
    ),
    _operation(
        "/healthz",
        "health",
        "Every component and how it is",
        {200: Answer(description="All is well", body=Health), 503: Answer(description="Something is not", body=Health)},
    ),
    _operation("/metrics", "metrics", "For Prometheus", {200: Answer(description="The metrics", media=_METRICS)}),
    _operation(
        "/v1/tree",
        "tree",
        "The supervision tree as it is now",
        {200: Answer(description="The tree", body=TreePart)},
        is_open=False,
    ),
    _operation("/openapi.json", "openapi", "This document", {200: Answer(description="It", body=dict[str, Any])}),
)
