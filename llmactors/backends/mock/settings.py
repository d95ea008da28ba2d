"""How the mock behaves: its time model, its limits, and the faults to inject. All of it fits in a model string."""

import typing
from typing import Annotated, Any, Self

import attrs
import msgspec

from llmactors import errors
from llmactors.backends.base import Batching

Count = Annotated[int, msgspec.Meta(ge=1)]
Milliseconds = Annotated[float, msgspec.Meta(ge=0, le=86_400_000)]
AtToken = Annotated[int, msgspec.Meta(ge=0)]
"""A place in the log, counted from 1; 0 is never."""


@attrs.frozen(kw_only=True)
class MockSettings:
    """The mock's settings. The defaults are a backend that takes no time and has no faults."""

    slots: Count = 64
    context: Count = 8192
    """Prompt and answer together, in tokens."""
    batching: Batching = Batching.CONTINUOUS

    prefill_ms: Milliseconds = 0.0
    """Delays a sequence's first token. Sequences are prefilled side by side, and decoding goes on meanwhile."""
    step_ms: Milliseconds = 0.0
    step_ms_per_sequence: Milliseconds = 0.0
    """One step takes `step_ms`, and this much for each sequence that decodes in it."""
    eos_one_in: Annotated[int, msgspec.Meta(ge=0)] = 0
    """One token in so many is an answer's last (finish `stop`), drawn per token; 0: only `max_tokens` ends it."""

    crash_at: AtToken = 0
    """The step that would make this token of any sequence raises `MockCrash` instead."""
    hang_at: AtToken = 0
    """The step that would make this token of any sequence never returns."""
    slow_at: AtToken = 0
    """The step that makes this token of any sequence takes `slow_ms` longer."""
    slow_ms: Milliseconds = 0.0
    crash_prompt: str = ""
    """Crashes, hangs and slow steps befall only sequences whose prompt contains this."""
    crash_times: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Crashes and hangs end after so many, over all incarnations that share a `FaultState`; 0: they never end."""
    refuse: str = ""
    """Prompts that contain this are refused with `BackendFailed`."""
    start_fail: Annotated[int, msgspec.Meta(ge=0)] = 0
    """The first so many starts raise `MockCrash`, counted over all incarnations that share a `FaultState`."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads `"step_ms=20,slots=64"`. Spaces around keys and values do not count; a value has no comma.

        Raises:
            ConfigError: A key is unknown or given twice, or a value is not one. The message names the key.
        """
        types = typing.get_type_hints(cls, include_extras=True)
        values: dict[str, Any] = {}
        for part in filter(None, map(str.strip, text.split(","))):
            try:
                key, value = _read(part, types)
            except ValueError as error:
                raise errors.ConfigError(f"mock setting {part!r}: {error}; valid are {', '.join(types)}") from error
            if key in values:
                raise errors.ConfigError(f"mock setting {part!r}: {key} is given twice; valid are {', '.join(types)}")
            values[key] = value
        return cls(**values)


def _read(part: str, types: dict[str, Any]) -> tuple[str, Any]:
    key, equals, value = (piece.strip() for piece in part.partition("="))
    if key not in types:
        raise ValueError(f"there is no {key!r}")
    if not equals:
        raise ValueError("it has no value")
    return key, msgspec.convert(value, types[key], strict=False)


@attrs.define
class FaultState:
    """What one incarnation of the mock leaves to the next: how often it has failed. Hand the same one to each."""

    faults: int = 0
    """Crashes and hangs so far."""
    failed_starts: int = 0
