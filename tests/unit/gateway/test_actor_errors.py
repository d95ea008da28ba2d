"""What a client is told when an actor of the gateway's node does not answer."""

import pytest

from llmactors.actors import ActorDied, AskFailed, MailboxFull, MessageExpired
from llmactors.gateway.actor_errors import client_error


@pytest.mark.parametrize(
    ("error", "code", "status"),
    [
        (ActorDied(), "UNAVAILABLE", 503),
        (MailboxFull(), "OVERLOADED", 429),
        (MessageExpired(), "DEADLINE_EXCEEDED", 504),
    ],
)
def test_each_runtime_error_has_a_client_error(error: AskFailed, code: str, status: int) -> None:
    told = client_error(error)
    assert (told.code, told.status) == (code, status)


@pytest.mark.parametrize("error", [ActorDied("root/limiter ended"), MailboxFull("root/limiter")])
def test_clients_may_retry_and_see_no_actor_names(error: AskFailed) -> None:
    told = client_error(error)
    assert told.retry_after_s == 1.0
    assert "limiter" not in told.message
