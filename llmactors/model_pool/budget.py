"""The memory that the models of a worker share, checked at the start."""

from collections.abc import Sequence

import structlog

from llmactors.backends.build import ServedModel
from llmactors.backends.memory import usable_memory
from llmactors.config import Settings, parse_size
from llmactors.errors import ConfigError, ModelError
from llmactors.model_pool.model import PoolRules

log = structlog.get_logger("llmactors.models")

_SHARE = 0.8
"""The share of the usable memory that models may take by default. The rest is for this process and for others."""


def pool_rules(settings: Settings, models: Sequence[ServedModel]) -> PoolRules:
    """The rules of a pool, with the memory that the models which are always loaded leave.

    Raises:
        ConfigError: A model can never be loaded, because it needs more memory than there is.
    """
    given = settings.model_memory
    memory_bytes = default_memory() if given is None else parse_size(given, "model_memory")
    always = {model.name: measured(model) for model in models if model.on_demand is None}
    for name in (name for name, need in always.items() if need is None):
        log.warning("the memory of a model is not counted, because its file is not there yet", model=name)
    taken_bytes = sum(need or 0 for need in always.values())
    left_bytes = memory_bytes - taken_bytes
    for model in models:
        need_bytes = None if model.on_demand is None else measured(model)
        if need_bytes is not None and need_bytes > left_bytes:
            raise ConfigError(
                f"the model {model.name} needs {gib(need_bytes)} of memory, and there are {gib(left_bytes)}: "
                f"`model_memory` is {gib(memory_bytes)}, and models that are always loaded take {gib(taken_bytes)}"
            )
    return PoolRules(memory_bytes=left_bytes, min_turn_s=settings.model_turn_s, patience_s=settings.model_patience_s)


def measured(model: ServedModel) -> int | None:
    """The memory that a model needs, in bytes; None where its file is not there, or is damaged: the load says why."""
    try:
        return model.measure()
    except ModelError:
        return None


def default_memory() -> int:
    """The memory that the models of this machine may take where no setting says so, in bytes."""
    return int(usable_memory() * _SHARE)


def gib(size_bytes: int) -> str:
    """A size for people to read."""
    return f"{size_bytes / 2**30:.2f} GiB"
