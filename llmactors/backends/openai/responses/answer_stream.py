"""One answer at one upstream: sends the request, and reads the deltas of the answer."""

from collections.abc import Callable, Sequence
from typing import Self

import attrs
import trio

from llmactors.backends.openai.continuation.overlap import Diverged
from llmactors.backends.openai.requests.call_trace import UNTRACED, CallTrace
from llmactors.backends.openai.requests.opening import Opening
from llmactors.backends.openai.requests.upstream import ChunkStream, Upstream
from llmactors.backends.openai.responses.answer import TextOverrun
from llmactors.backends.openai.responses.chunks import Chunk
from llmactors.backends.openai.routing.faults import FaultKind, UpstreamFault
from llmactors.backends.openai.settings import OpenAISettings
from llmactors.errors import BackendFailed, Interrupted
from llmactors.ledger.request_size import RequestSize
from llmactors.messages import FinishReason, GenerateRequest, TokenDelta

PassOn = Callable[[list[TokenDelta]], bool]
_LATE_BYTES = 1 << 18
"""How many bytes are read behind the deadline, as long as each of them is there at once. More than the buffers of a
connection hold is a server that sends comments for ever."""
_USAGE_S = 2.0
"""How long the upstream may take from the finish reason to the counts of tokens."""


class AnswerStream:
    """The deltas of an answer, as they come. The caller of `open` must close the stream."""

    def __init__(
        self, stream: ChunkStream, opening: Opening, request: GenerateRequest, settings: OpenAISettings, first_by: float
    ) -> None:
        self._stream = stream
        self._answer = opening.answer
        self._overlap = opening.overlap
        self._read_before = opening.read_before
        self._request = request
        self._settings = settings
        self._first_by = first_by
        self._counts_by: float | None = None
        """Until when the counts of tokens may come; None before the finish reason."""
        self._pass_on: PassOn | None = None
        self._taken: tuple[list[TokenDelta], bool] | UpstreamFault | None = None
        """What `next` returns or raises of the bytes that were read while it waited."""
        self._read_fault: UpstreamFault | None = None
        """Why bytes could not be read that came while `next` waited."""
        self._wait_until = first_by
        self._is_filtering = False
        """Whether the part of the answer comes that the client has."""

    def __repr__(self) -> str:
        return f"<AnswerStream {self._stream!r} {self._answer!r}>"

    @classmethod
    async def open(
        cls,
        upstream: Upstream,
        opening: Opening,
        request: GenerateRequest,
        settings: OpenAISettings,
        first_by: float,
        trace: CallTrace = UNTRACED,
    ) -> Self:
        """Sends a request, and waits for the head of the response. Raises `UpstreamFault`.

        Args:
            upstream: The upstream to ask.
            opening: What is sent, and how the response is read.
            request: The request of the client.
            settings: The bounds on requests to upstreams.
            first_by: When the first token must be here, on Trio's clock.
            trace: The trace of the try, whose owner ends it.
        """
        stream = await upstream.open(opening.route, opening.body, opening.reader, trace)
        return cls(stream, opening, request, settings, first_by)

    @property
    def begun(self) -> bool:
        """Whether text, reasoning or a call has come."""
        return self._answer.begun

    @property
    def finish(self) -> FinishReason | None:
        """Why the answer ended; None before its end."""
        return self._answer.finish

    @property
    def prompt_tokens(self) -> int:
        """The length of the prompt without the answer so far, estimated where the upstream does not say."""
        if self._answer.prompt_tokens <= 0:
            return RequestSize.of(self._request).prompt_tokens
        return max(0, self._answer.prompt_tokens - self._read_before)

    @property
    def cached_tokens(self) -> int:
        """How many tokens of the prompt came from the upstream's cache; 0 where the upstream does not say."""
        return self._answer.cached_tokens

    async def next(self, pass_on: PassOn | None = None) -> tuple[list[TokenDelta], bool]:
        """Waits for the next deltas, and says whether they are the last. Raises `UpstreamFault`.

        Args:
            pass_on: Gets deltas while this waits, so that the waiting task need not run for each token. Returns False
                where it has no room: then `next` returns these deltas. The last deltas are always returned.
        """
        self._pass_on = pass_on
        try:
            chunks = await self._next_chunks()
        except (UpstreamFault, trio.TooSlowError) as error:
            if self._answer.finish is not None:
                # The answer is complete. Only the counts, or an orderly end of the stream, did not come.
                return self._answer.close(), True
            if isinstance(error, UpstreamFault):
                raise
            raise UpstreamFault(FaultKind.SILENT, BackendFailed("the upstream fell silent")) from error
        taken, self._taken = self._taken, None
        if isinstance(taken, UpstreamFault):
            raise taken
        return self._take(chunks) if taken is None else taken

    async def _next_chunks(self) -> list[Chunk]:
        """The next chunks; none where they have been taken already."""
        self._wait_until = self._deadline()
        absorb = None if self._pass_on is None else self._absorb
        late_bytes = 0
        while True:
            data = await self._stream.receive(self._wait_until, absorb)
            if self._read_fault is not None:
                raise self._read_fault
            if self._taken is not None:
                return []
            if chunks := self._stream.read(data):
                return chunks
            if trio.current_time() >= self._wait_until:
                # After a stop of this process, tokens may wait behind the comments that kept the connection open.
                late_bytes += len(data)
                if late_bytes > _LATE_BYTES:
                    raise trio.TooSlowError

    def _absorb(self, data: bytes) -> float | None:
        """Reads bytes that come while `next` waits. Returns until when to wait on; None where `next` is to return."""
        try:
            chunks = self._stream.read(data)
        except UpstreamFault as fault:
            self._read_fault = fault
            return None
        if not chunks:
            return self._wait_until
        try:
            deltas, finished = self._take(chunks)
        except UpstreamFault as fault:
            self._taken = fault
            return None
        assert self._pass_on is not None  # noqa: S101 - nothing is absorbed otherwise
        must_return = finished or self._answer.finish is not None or self._stream.has_fault
        if must_return or (deltas and not self._pass_on(deltas)):
            self._taken = deltas, finished
            return None
        self._wait_until = trio.current_time() + self._settings.silence_s
        return self._wait_until

    async def close(self) -> None:
        """Ends the stream. The upstream stops where the answer is not complete."""
        await self._stream.close()

    def _deadline(self) -> float:
        now = trio.current_time()
        if self._answer.finish is not None:
            if self._counts_by is None:
                self._counts_by = now + min(_USAGE_S, self._settings.silence_s)
            return self._counts_by
        has_begun = self._answer.begun or self._is_filtering
        return now + self._settings.silence_s if has_begun else self._first_by

    def _take(self, chunks: Sequence[Chunk]) -> tuple[list[TokenDelta], bool]:
        answer, chunks = self._answer, self._filter(chunks)
        deltas: list[TokenDelta] = []
        place = 0
        while place < len(chunks):
            plain = answer.take_plain(chunks, place)
            deltas += plain
            place += len(plain)
            if place == len(chunks):
                break
            chunk = chunks[place]
            place += 1
            if chunk.finish == "content_filter":
                text = "the upstream's content filter ended the answer"
                raise UpstreamFault(FaultKind.REQUEST, BackendFailed(text))
            if chunk.text or chunk.reasoning or chunk.tool_calls:
                self._counts_by = None
            try:
                deltas += answer.take(chunk)
            except TextOverrun as error:
                text = "the upstream sends more text than was asked for"
                raise UpstreamFault(FaultKind.MALFORMED, BackendFailed(text)) from error
            if chunk.done or answer.stopped:
                if not answer.finish and not answer.finish_without_reason(trusts_end=self._settings.done_ends):
                    text = "the upstream ended the answer without a reason"
                    raise UpstreamFault(FaultKind.MALFORMED, BackendFailed(text))
                return deltas + answer.close(), True
        return deltas, False

    def _filter(self, chunks: Sequence[Chunk]) -> Sequence[Chunk]:
        if self._overlap is None:
            return chunks
        self._is_filtering = self._is_filtering or any(
            chunk.text or chunk.reasoning or chunk.tool_calls or chunk.ids for chunk in chunks
        )
        try:
            return self._overlap.filter(chunks)
        except Diverged as error:
            text = "the upstream makes another answer than the one that was begun"
            raise UpstreamFault(FaultKind.REQUEST, Interrupted(text)) from error


@attrs.frozen
class EndedAnswer:
    """An answer whose text is all in the log, and whose end is missing: an `AnswerStream` without an upstream."""

    prompt_tokens: int
    """The length of the prompt."""
    finish: FinishReason = "stop"
    begun: bool = True
    cached_tokens: int = 0

    async def next(self, pass_on: PassOn | None = None) -> tuple[list[TokenDelta], bool]:  # noqa: ARG002
        """Nothing follows."""
        await trio.lowlevel.checkpoint()
        return [], True

    async def close(self) -> None:
        """There is nothing to close."""
        await trio.lowlevel.checkpoint()


def first_within_s(request: GenerateRequest, settings: OpenAISettings) -> float:
    """How long an upstream may take to the first token of an answer: longer where the prompt is long."""
    return settings.first_s + RequestSize.of(request).prompt_tokens / settings.prompt_tokens_per_s
