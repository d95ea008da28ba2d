"""What a client is told when an actor of the gateway's node does not answer."""

from pathlib import Path

import pytest

import llmactors
from llmactors.actors import ActorDied, AskFailed, MailboxFull, MessageExpired
from llmactors.gateway.actor_errors import client_error


@pytest.mark.parametrize(
    ("error", "code", "status"),
    [
        (ActorDied(), "UNAVAILABLE", 503),
        (MailboxFull(), "OVERLOADED", 429),
        (MessageExpired(), "UNAVAILABLE", 503),
    ],
)
def test_each_runtime_error_has_a_client_error(error: AskFailed, code: str, status: int) -> None:
    told = client_error(error)
    assert (told.code, told.status) == (code, status)


def test_gateway_asks_actors_in_one_place_only() -> None:
    """There each question has a time limit of its own, and each failure becomes an error for clients."""
    asking = [
        path.name
        for part in ("access", "gateway", "http", "limiter")
        for path in (Path(llmactors.__file__).parent / part).rglob("*.py")
        if ".ask(" in path.read_text("utf-8")
    ]
    assert asking == ["limit_check.py"]


@pytest.mark.parametrize(
    "error", [ActorDied("root/limiter ended"), MailboxFull("root/limiter"), MessageExpired("root/limiter is late")]
)
def test_clients_may_retry_and_see_no_actor_names(error: AskFailed) -> None:
    told = client_error(error)
    assert told.retry_after_s == 1.0
    assert "limiter" not in told.message
