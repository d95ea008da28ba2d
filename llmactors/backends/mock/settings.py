"""The settings of the mock: its time model, its limits, and the faults to inject. A model string can hold them all."""

import typing
from typing import Annotated, Any, Self

import attrs
import msgspec

from llmactors import errors
from llmactors.backends.base import Batching

Count = Annotated[int, msgspec.Meta(ge=1)]
Dimensions = Annotated[int, msgspec.Meta(ge=1, le=65536)]
Milliseconds = Annotated[float, msgspec.Meta(ge=0, le=86_400_000)]
AtToken = Annotated[int, msgspec.Meta(ge=0)]
"""A token's place in the log, counted from 1. 0: never."""


@attrs.frozen(kw_only=True)
class MockSettings:
    """The settings of one mock. By default the backend takes no time and has no faults."""

    slots: Count = 64
    context: Count = 8192
    """The most tokens that prompt and answer may have together."""
    batching: Batching = Batching.CONTINUOUS

    dimensions: Dimensions = 64
    """The length of the vectors that the backend makes of inputs for embeddings."""
    prefill_ms: Milliseconds = 0.0
    """The delay of a sequence's first token. Sequences are prefilled side by side, while other sequences decode."""
    step_ms: Milliseconds = 0.0
    step_ms_per_sequence: Milliseconds = 0.0
    """What each sequence that decodes adds to the `step_ms` of a step."""
    eos_one_in: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Each token ends its answer with `stop` with a probability of 1 in this. 0: only `max_tokens` ends an answer."""

    tool_format: str = "hermes"
    """The form in which the backend writes calls of tools; empty: the backend knows no tools."""

    images: bool = False
    """Whether the backend takes images in chats. The answer depends on the text of each image's URL and on its place in
    the prompt."""

    crash_at: AtToken = 0
    """The step that would make this token of any sequence raises `MockCrash` instead."""
    hang_at: AtToken = 0
    """The step that would make this token of any sequence never returns."""
    slow_at: AtToken = 0
    """The step that makes this token of any sequence takes `slow_ms` milliseconds longer."""
    slow_ms: Milliseconds = 0.0
    hold_every: AtToken = 0
    """A sequence makes no more tokens here once the number of its tokens is a multiple of this. A takeover goes on to
    the next multiple, so that a test can kill the worker behind exactly known tokens of all answers. 0: never."""
    crash_prompt: str = ""
    """Crashes, hangs and slow steps concern only sequences whose prompt contains this text."""
    crash_times: Annotated[int, msgspec.Meta(ge=0)] = 0
    """How many crashes and hangs there are, over all incarnations that share a `FaultState`. 0: no limit."""
    refuse: str = ""
    """A prompt that contains this text is refused with `BackendFailed`."""
    load_s: Annotated[float, msgspec.Meta(ge=0, le=86_400)] = 0.0
    """How long the start takes, in seconds, as the loading of a model does."""
    start_fail: Annotated[int, msgspec.Meta(ge=0)] = 0
    """How many of the first starts raise `MockCrash`, over all incarnations that share a `FaultState`."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads a text such as `step_ms=20,slots=64`. Spaces around keys and values are ignored.

        Raises:
            ConfigError: A key is unknown or given twice, or a value is wrong. The message names the key.
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
    """How often the incarnations of one mock have failed. Pass the same object to each incarnation."""

    faults: int = 0
    """The crashes and hangs so far."""
    failed_starts: int = 0
