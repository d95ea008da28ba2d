"""A plain function over a batch of prompts as a backend. The function runs in a thread, one step at a time.

    def generate(prompts, max_tokens):          # list[str], int
        for _ in range(max_tokens):
            yield [...]                         # one piece of text per prompt; None: this answer has ended

The batcher gives the function prompts of one `max_tokens`, and calls it again once the iterator has ended.
"""

import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any, cast

import attrs
import msgspec
import trio

from llmactors.backends.base import Batching, Capabilities, Job, Output, Takeover
from llmactors.backends.stop_strings import StopStrings
from llmactors.errors import Interrupted
from llmactors.messages import FinishReason, GenerateRequest, TokenDelta, TokenExtra

Step = Sequence[str | None]
BatchFunction = Callable[..., Iterator[Step]]
"""`(prompts, max_tokens)`, or `(prompts, max_tokens, requests)` for a function that needs the other fields."""

Key = tuple[str, int]
_NO_TOKEN = -1
_END = object()


@attrs.frozen(kw_only=True)
class BatchSettings:
    """The options of a function in `--model`."""

    slots: Annotated[int, msgspec.Meta(ge=1)] = 16
    """The largest batch, in prompts."""
    context: Annotated[int, msgspec.Meta(ge=16)] = 8192
    """The context that the backend declares, in tokens. Nothing checks that a prompt fits."""


def takes_batches(target: Callable[..., Any]) -> bool:
    """Whether `target` is a function over a batch, or a class whose objects can be called as such a function."""
    call = getattr(target, "__call__", None) if inspect.isclass(target) else target  # noqa: B004 - its signature counts
    try:
        names = [name for name in inspect.signature(cast("Callable[..., Any]", call)).parameters if name != "self"]
    except (TypeError, ValueError):
        return False
    return names[:2] == ["prompts", "max_tokens"]


@attrs.define(eq=False)
class _Row:
    """One prompt of the batch, and the state of its answer."""

    job: Job
    stops: StopStrings
    made: int = 0
    held: int = 0
    """How many characters are held back, because a stop string may begin with them."""
    pending: str | None = None
    """The shown text of the newest token, while the end of the token is held back."""

    def take(self, text: str | None) -> tuple[list[TokenDelta], FinishReason | None]:
        if text is None:
            return self._flush(), "stop"
        shown = self.stops.feed(text)
        self.held += len(text) - len(shown)
        deltas = [] if self.pending is None else [TokenDelta(_NO_TOKEN, self.pending)]
        self.pending = shown
        self.made += 1
        if self.stops.stopped:
            return deltas + self._flush(), "stop"
        if self.made >= self.job.request.max_tokens:
            return deltas + self._flush(), "length"
        if not self.held:
            deltas += self._flush()
        return deltas, None

    def _flush(self) -> list[TokenDelta]:
        last, self.pending = self.pending, None
        if last is None:
            return []
        extra = TokenExtra(stop=self.stops.stop) if self.stops.stop else None
        return [TokenDelta(_NO_TOKEN, last + self.stops.flush(), extra)]


class BatchBackend:
    """A stepwise backend, `Batching.STATIC`, `Takeover.RESTART`.

    Args:
        make: Returns the function. Called once, in a thread, so that a model can be loaded.
        settings: The largest batch, and the context to declare.
    """

    def __init__(self, make: Callable[[], BatchFunction], settings: BatchSettings | None = None) -> None:
        self._make = make
        self._settings = settings or BatchSettings()
        self.capabilities = Capabilities(
            self._settings.slots, self._settings.context, Takeover.RESTART, batching=Batching.STATIC
        )
        self._function: BatchFunction | None = None
        self._wants_requests = False
        self._rows: dict[Key, _Row] = {}
        self._batch: tuple[Key, ...] = ()
        """The keys of the running batch, in the order of its prompts. `_rows` lacks those whose answers have ended."""
        self._steps: Iterator[Step] | None = None
        self._limiter = trio.CapacityLimiter(1)

    def __repr__(self) -> str:
        return f"<BatchBackend {len(self._rows)}/{self._settings.slots} rows, {'runs' if self._steps else 'idle'}>"

    async def start(self) -> None:
        """Makes the function, in a thread."""
        self._function = await self._in_thread(self._make)
        self._wants_requests = "requests" in inspect.signature(self._function).parameters

    async def admit(self, job: Job) -> None:
        """Adds one prompt to the next batch. Raises `Interrupted` for an answer that another backend began."""
        await trio.lowlevel.checkpoint_if_cancelled()
        if job.tokens:
            raise Interrupted("the backend was lost, and this kind of backend cannot continue an answer")
        if self._steps is not None and self._rows:
            raise RuntimeError("a static batch runs, so no request may join")
        self._rows[job.key] = _Row(job, StopStrings(job.request.stop))

    async def step(self) -> list[Output]:
        """Takes one step of the function. Raises whatever the function raises."""
        if self._steps is None or not any(key in self._rows for key in self._batch):
            await self._begin()
        step = await self._in_thread(lambda: next(cast("Iterator[Step]", self._steps), _END))
        if step is not _END and len(cast("Step", step)) != len(self._batch):
            raise TypeError(f"a step gave {len(cast('Step', step))} pieces for {len(self._batch)} prompts")
        texts = [None] * len(self._batch) if step is _END else cast("Step", step)
        outputs: list[Output] = []
        for key, text in zip(self._batch, texts, strict=True):
            if (row := self._rows.get(key)) is None:
                continue  # the answer has ended, or was evicted
            deltas, finish = row.take(text)
            if finish is not None:
                del self._rows[key]
            outputs.append(Output(key, deltas, finish, _words(row.job.request) if finish else 0))
        if not self._rows:
            await self._end()
        return outputs

    def evict(self, key: Key) -> None:
        self._rows.pop(key, None)

    async def check(self) -> None:
        await trio.lowlevel.checkpoint()

    async def close(self) -> None:
        self._rows.clear()
        await trio.lowlevel.checkpoint()

    async def _begin(self) -> None:
        await self._end()
        self._batch = tuple(self._rows)
        requests = [row.job.request for row in self._rows.values()]
        prompts = [request.prompt for request in requests]
        extra = {"requests": requests} if self._wants_requests else {}
        function = cast("BatchFunction", self._function)
        self._steps = await self._in_thread(lambda: iter(function(prompts, requests[0].max_tokens, **extra)))

    async def _end(self) -> None:
        """Closes the iterator, so that a generator can clean up."""
        steps, self._steps, self._batch = self._steps, None, ()
        close = getattr(steps, "close", None)
        if close is not None:
            await self._in_thread(close)

    async def _in_thread(self, work: Callable[[], Any]) -> Any:
        # Only the end of this incarnation cancels this. The thread is abandoned then, as nothing can stop a thread.
        return await trio.to_thread.run_sync(work, abandon_on_cancel=True, limiter=self._limiter)


def _words(request: GenerateRequest) -> int:
    """The number of words, which stands for the number of prompt tokens."""
    return len(request.prompt.split())
