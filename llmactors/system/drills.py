"""Breaks parts of a node on purpose, where the setting `drills` allows that."""

from collections.abc import Callable, Mapping, Sequence

from llmactors.actors import Tree
from llmactors.actors.errors import MisuseError
from llmactors.backends.base import Backend, HasProcess
from llmactors.backends.directory import NOT_IN_MEMORY
from llmactors.cluster.node_record import NodeRecord
from llmactors.errors import Conflict, NotFound


class DrillCrash(Exception):
    """An operator asked for this crash."""


def kill_model(backends: Mapping[str, Backend], model: str) -> None:
    """Kills the process of a model of this node.

    Raises `NotFound` for a model that this node does not serve, or `Conflict` for a model without a running process.
    """
    backend = backends.get(model)
    if backend is None:
        raise NotFound(f"this node does not serve the model {model[:100]!r}")
    if not isinstance(backend, HasProcess):
        raise Conflict(f"the model {model!r} has no process of its own: kill its upstream, or crash its actor")
    backend.kill()


def crash_of(tree: Tree, path: str) -> Callable[[], None]:
    """A function that crashes the actor at `path`. Raises `NotFound`, or `Conflict` for an actor that does not run."""
    try:
        actor = tree.actor(path)
    except MisuseError:
        raise NotFound(f"there is no actor {path[:200]!r}; GET /v1/tree shows the actors of this node") from None
    if not actor.spec.ref.running:
        raise Conflict(f"the actor {path!r} does not run now; try again in a moment")
    return lambda: actor.crash(DrillCrash("an operator asked for this crash"))


def worker_of(records: Sequence[NodeRecord], model: str) -> NodeRecord:
    """The worker of the cluster whose process of the model is killed: the one that runs the most requests of it.

    Raises `NotFound` where no worker serves the model, or `Conflict` where no worker has it in memory.
    """
    known = [(report, record) for record in records for report in record.models if report.name == model]
    if not known:
        raise NotFound(f"no worker serves the model {model[:100]!r}")
    loaded = [(report.running, record) for report, record in known if report.state not in NOT_IN_MEMORY]
    if not loaded:
        raise Conflict(f"no worker has the model {model!r} in memory now")
    return max(loaded, key=lambda pair: pair[0])[1]
