"""Wrong specs are refused before anything runs."""

import pytest

from llmactors.actors import Actor, ActorSpec, SupervisorSpec, Tree
from llmactors.actors.errors import MisuseError
from llmactors.actors.stop import StopSignal


def test_mailbox_capacity_is_at_least_1() -> None:
    with pytest.raises(MisuseError, match="capacity"):
        ActorSpec("a", Actor, capacity=0)


@pytest.mark.parametrize("declared", [Exception, MemoryError])
def test_actor_cannot_declare_all_exceptions(declared: type[Exception]) -> None:
    with pytest.raises(MisuseError, match="declare"):
        ActorSpec("a", Actor, declares=(declared,))


def test_children_of_a_supervisor_have_different_names() -> None:
    with pytest.raises(MisuseError, match="two children"):
        SupervisorSpec("s", (ActorSpec("a", Actor), ActorSpec("a", Actor)))


@pytest.mark.parametrize(("intensity", "period_s"), [(-1, 1.0), (1, 0.0), (1, -1.0)])
def test_intensity_and_period_out_of_range_are_refused(intensity: int, period_s: float) -> None:
    with pytest.raises(MisuseError, match="intensity"):
        SupervisorSpec("s", (), intensity=intensity, period_s=period_s)


def test_one_spec_makes_one_actor() -> None:
    spec = ActorSpec("a", Actor)
    with pytest.raises(MisuseError, match="share one address"):
        Tree(SupervisorSpec("root", (spec, SupervisorSpec("inner", (spec,)))))


def test_error_for_an_unknown_path_names_known_paths() -> None:
    tree = Tree(SupervisorSpec("root", (ActorSpec("a", Actor),)))
    with pytest.raises(MisuseError, match="root/a"):
        tree.actor("root/b")


def test_stop_signal_calls_each_callback_once() -> None:
    calls = []
    stop = StopSignal()
    stop.on_set(lambda: calls.append("early"))
    assert not stop.is_set()
    stop.set()
    stop.set()
    stop.on_set(lambda: calls.append("late"))
    assert stop.is_set()
    assert calls == ["early", "late"]
