"""The document tells of every route, and refers to nothing that it does not hold."""

import re
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from llmactors.access.authentication import OPEN_ROUTES, Authenticator
from llmactors.backends.directory import ModelDirectory
from llmactors.errors import NotFound
from llmactors.gateway.app import App
from llmactors.gateway.errors import NATIVE_ERRORS
from llmactors.gateway.limit_check import LimitCheck
from llmactors.gateway.openai.errors import OPENAI_ERRORS
from llmactors.gateway.openai.responses.routes import PATH as RESPONSES
from llmactors.gateway.openai.routes import PATHS
from llmactors.gateway.openapi.answers import CompatibleError, Error
from llmactors.gateway.openapi.document import OPERATIONS, document
from llmactors.gateway.request_service import RequestService
from llmactors.gateway.settings import GatewaySettings
from llmactors.ledger import MemoryLedger
from llmactors.telemetry import Metrics

DOCUMENT = document()
NATIVE = ("/v1/generate", "/v1/streams/{id}", "/v1/ws/tickets")


def values(tree: Any, key: str) -> Iterator[Any]:
    """All values of `key`, at any depth."""
    if isinstance(tree, dict):
        for name, value in tree.items():
            if name == key:
                yield value
            yield from values(value, key)
    elif isinstance(tree, list):
        for each in tree:
            yield from values(each, key)


def test_document_has_every_route() -> None:
    service = RequestService(
        GatewaySettings(),
        ledger=MemoryLedger(),
        directory=ModelDirectory(("m",)),
        metrics=Metrics(),
        limit_check=LimitCheck(),
    )
    app = App(service, Authenticator(None), lambda: None, access_log=False)  # type: ignore[arg-type,return-value]
    rules = {re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule) for rule in app._quart.url_map.iter_rules()}
    missing = (rules | {*PATHS, *NATIVE, RESPONSES}) - set(DOCUMENT["paths"])
    assert not missing, f"add an `Operation` in llmactors/gateway/openapi for {', '.join(sorted(missing))}"


def test_every_reference_resolves() -> None:
    held = {f"#/components/schemas/{name}" for name in DOCUMENT["components"]["schemas"]}
    assert set(values(DOCUMENT, "$ref")) <= held
    names = [operation.name for operation in OPERATIONS]
    assert len(names) == len(set(names))
    assert msgspec.json.decode(msgspec.json.encode(DOCUMENT)) == DOCUMENT


def test_only_open_routes_have_no_security() -> None:
    assert {operation.path for operation in OPERATIONS if operation.is_open} == OPEN_ROUTES


def test_errors_match_their_schema() -> None:
    for build, kind in ((NATIVE_ERRORS.body, Error), (OPENAI_ERRORS.body, CompatibleError)):
        told = build(NotFound("there is none"), "req_1")
        assert msgspec.to_builtins(msgspec.convert(told, kind)) == told
    [generate] = [each for each in OPERATIONS if each.name == "generate"]
    responses = DOCUMENT["paths"]["/v1/generate"]["post"]["responses"]
    assert set(responses) == {"200"} | {str(error.status) for error in generate.errors}
    assert "`CONTEXT_EXCEEDED`" in responses["400"]["description"]
    assert "Retry-After" in responses["429"]["headers"]


@pytest.mark.parametrize("body", ["ChatBody", "CompletionBody"])
def test_unsupported_fields_are_documented(body: str) -> None:
    properties = DOCUMENT["components"]["schemas"][body]["properties"]
    assert properties["tools"] == {"enum": [None, []]}
    assert properties["logprobs"] == {"enum": [None, False]}
