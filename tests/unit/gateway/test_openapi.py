"""The OpenAPI document describes the table of routes, and refers to nothing that it does not hold."""

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from llmactors.errors import NotFound
from llmactors.gateway.openapi import document
from llmactors.gateway.routes import ROUTES
from llmactors.limiter import LimitDecision, Limits, Standing, charges_for, limit_headers

DOCUMENT = document(ROUTES)


def values(tree: Any, key: str) -> Iterator[Any]:
    """All values of `key` at any depth."""
    if isinstance(tree, dict):
        for name, value in tree.items():
            if name == key:
                yield value
            yield from values(value, key)
    elif isinstance(tree, list):
        for each in tree:
            yield from values(each, key)


def test_document_has_every_route() -> None:
    told = {(method.upper(), path) for path, methods in DOCUMENT["paths"].items() for method in methods}
    assert told == {(route.method, route.path.replace(":path}", "}")) for route in ROUTES}


def test_references_resolve_and_names_are_unique() -> None:
    held = {f"#/components/schemas/{name}" for name in DOCUMENT["components"]["schemas"]}
    assert set(values(DOCUMENT, "$ref")) <= held
    names = [route.name for route in ROUTES]
    assert len(names) == len(set(names))
    assert msgspec.json.decode(msgspec.json.encode(DOCUMENT)) == DOCUMENT


def test_open_routes_have_empty_security() -> None:
    told = {path for path, methods in DOCUMENT["paths"].items() for each in methods.values() if "security" in each}
    told -= {"/", "/console/{file}", "/v1/operator/session"}
    assert told == {"/livez", "/readyz", "/health", "/healthz", "/metrics", "/openapi.json"}


def test_rendered_errors_have_the_documented_type() -> None:
    for family in {route.family for route in ROUTES}:
        told = family.errors.body(NotFound("there is none"), "req_1")
        assert msgspec.to_builtins(msgspec.convert(told, family.error_body)) == told


def test_errors_of_a_route_are_documented_by_status() -> None:
    [generate] = [each for each in ROUTES if each.name == "generate"]
    responses = DOCUMENT["paths"]["/v1/generate"]["post"]["responses"]
    assert set(responses) == {"200"} | {str(error.status) for error in generate.errors}
    assert "`CONTEXT_EXCEEDED`" in responses["400"]["description"]
    assert "Retry-After" in responses["429"]["headers"]


def test_sent_limit_headers_are_the_documented_ones() -> None:
    limits = Limits(requests_per_minute=1, tokens_per_minute=1, tokens_per_day=1, concurrent=1)
    charges = charges_for(limits, "t", tokens=1)
    sent = {name for name, _ in limit_headers([Standing(each, LimitDecision(True, 1, 0, 1.0)) for each in charges])}
    told = DOCUMENT["paths"]["/v1/generate"]["post"]["responses"]["200"]["headers"]
    assert sent == {name.lower() for name in told} - {"x-request-id"}


@pytest.mark.parametrize("body", ["ChatBody", "CompletionBody"])
def test_unserved_fields_are_documented(body: str) -> None:
    properties = DOCUMENT["components"]["schemas"][body]["properties"]
    assert (properties["tools"] == {"enum": [None, []]}) is (body == "CompletionBody")
    assert properties["echo"] == {"enum": [None, False]}
