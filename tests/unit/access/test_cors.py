"""The headers that let pages of allowed origins read answers."""

import pytest

from llmactors.access.cors import EXPOSED, REQUEST_HEADERS, answer_headers, preflight_headers
from llmactors.gateway.openapi import document
from llmactors.gateway.routes import ROUTES

APP = "https://app.example.com"


@pytest.mark.parametrize(
    ("origin", "allowed", "told"),
    [
        (APP, (APP,), APP),
        (APP, ("*",), APP),
        ("null", ("null",), "null"),
        ("null", ("*",), "null"),
        ("https://APP.example.com", (APP,), "https://APP.example.com"),
        ("null", (APP,), None),
        ("https://evil.example", (APP,), None),
        (None, (APP,), None),
        (None, ("*",), None),
    ],
)
def test_allowed_origin_may_read_answers(origin: str | None, allowed: tuple[str, ...], told: str | None) -> None:
    headers = dict(answer_headers(origin, allowed))
    assert headers.get("access-control-allow-origin") == told
    assert headers["vary"] == "Origin"
    assert ("access-control-expose-headers" in headers) == (told is not None)
    assert "access-control-allow-credentials" not in headers


def test_node_without_allowed_origins_adds_no_headers() -> None:
    assert answer_headers(APP, ()) == []


def test_every_documented_response_header_is_exposed() -> None:
    documented = {
        name.lower()
        for operations in document(ROUTES)["paths"].values()
        for operation in operations.values()
        for response in operation["responses"].values()
        for name in response.get("headers", {})
    }
    assert documented <= set(EXPOSED)
    assert "x-request-id" in documented


def test_preflight_repeats_the_headers_that_are_asked_for() -> None:
    asked = "Authorization, x-stainless-os,openai-beta , last-event-id"
    headers = dict(preflight_headers(("POST", "OPTIONS"), asked, asks_for_private_network=False))
    assert headers["access-control-allow-headers"] == "authorization, x-stainless-os, openai-beta, last-event-id"
    assert headers["access-control-allow-methods"] == "POST, OPTIONS"
    assert int(headers["access-control-max-age"]) > 0
    assert "access-control-allow-private-network" not in headers


@pytest.mark.parametrize("asked", [None, "", " , ,", "no\x01name", "x" * 65])
def test_preflight_without_good_names_allows_known_ones(asked: str | None) -> None:
    headers = dict(preflight_headers(("GET",), asked, asks_for_private_network=False))
    assert headers["access-control-allow-headers"] == ", ".join(REQUEST_HEADERS)


def test_preflight_repeats_a_bounded_number_of_headers() -> None:
    asked = ",".join(f"x-{number}" for number in range(5000))
    headers = dict(preflight_headers(("GET",), asked, asks_for_private_network=True))
    assert headers["access-control-allow-headers"].split(", ") == [f"x-{number}" for number in range(64)]
    assert headers["access-control-allow-private-network"] == "true"
