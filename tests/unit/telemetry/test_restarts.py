"""The newest restarts of actors, as operators see them."""

from llmactors.actors import Exit, ExitKind
from llmactors.telemetry.restarts import RESTARTS_KEPT, RecentRestarts


def test_restarts_have_actor_incarnation_and_reason() -> None:
    restarts = RecentRestarts(clock=lambda: 7.0)
    restarts.actor_started("node/serving/m", 3)
    restarts.restarting(
        "node/serving", ("m", "batcher:m"), Exit(ExitKind.CRASHED, RuntimeError("<b> Bearer s3cret-word")), delay_s=0.25
    )
    other, first = restarts.newest_first()
    assert (first.unix_s, first.actor, first.incarnation, first.backoff_s) == (7.0, "node/serving/m", 3, 0.25)
    assert (other.actor, other.incarnation) == ("node/serving/batcher:m", 0)
    assert "<b>" in first.reason
    assert "s3cret" not in first.reason


def test_old_restarts_are_forgotten() -> None:
    restarts = RecentRestarts()
    for number in range(RESTARTS_KEPT + 5):
        restarts.restarting("node", (f"a{number}",), Exit(ExitKind.CRASHED, RuntimeError("x" * 10_000)), delay_s=0.0)
    assert len(restarts.newest_first()) == RESTARTS_KEPT
    assert restarts.newest_first()[0].actor == f"node/a{RESTARTS_KEPT + 4}"
    assert max(len(each.reason) for each in restarts.newest_first()) <= 300
