"""What a spec refuses, before anything runs."""

import pytest

from llmactors.actors import Actor, ActorSpec, SupervisorSpec, Tree
from llmactors.actors.errors import MisuseError
from llmactors.actors.stop import StopSignal


def test_a_mailbox_holds_at_least_one_message() -> None:
    with pytest.raises(MisuseError, match="capacity"):
        ActorSpec("a", Actor, capacity=0)


@pytest.mark.parametrize("declared", [Exception, MemoryError])
def test_an_actor_may_not_declare_what_must_end_it(declared: type[Exception]) -> None:
    with pytest.raises(MisuseError, match="declare"):
        ActorSpec("a", Actor, declares=(declared,))


def test_two_children_have_two_names() -> None:
    with pytest.raises(MisuseError, match="two children"):
        SupervisorSpec("s", (ActorSpec("a", Actor), ActorSpec("a", Actor)))


@pytest.mark.parametrize(("intensity", "period_s"), [(-1, 1.0), (1, 0.0), (1, -1.0)])
def test_intensity_and_period_make_sense(intensity: int, period_s: float) -> None:
    with pytest.raises(MisuseError, match="intensity"):
        SupervisorSpec("s", (), intensity=intensity, period_s=period_s)


def test_one_spec_is_one_actor() -> None:
    spec = ActorSpec("a", Actor)
    with pytest.raises(MisuseError, match="share one address"):
        Tree(SupervisorSpec("root", (spec, SupervisorSpec("inner", (spec,)))))


def test_an_unknown_path_is_answered_with_the_known_ones() -> None:
    tree = Tree(SupervisorSpec("root", (ActorSpec("a", Actor),)))
    with pytest.raises(MisuseError, match="root/a"):
        tree.actor("root/b")


def test_a_stop_signal_calls_back_once_and_late_comers_at_once() -> None:
    calls = []
    stop = StopSignal()
    stop.on_set(lambda: calls.append("early"))
    assert not stop.is_set()
    stop.set()
    stop.set()
    stop.on_set(lambda: calls.append("late"))
    assert stop.is_set()
    assert calls == ["early", "late"]
