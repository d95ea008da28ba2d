"""From the chunks of an upstream to the deltas of the log. Pure.

Each chunk with text becomes one delta, and a delta counts as one token. Where a chunk holds several tokens, empty
deltas at the end make up the difference to the upstream's own count, so that the log counts what was made. Where there
are more chunks than `max_tokens`, the last delta takes the text of all the rest. The log's text is always a beginning
of the answer, and holds no part of a stop string.

Reasoning and calls of tools, which the upstream has told apart, have a delta of their own, without text.

Log probabilities come in the order of the tokens. Each delta takes the next one; where a chunk has several of them,
empty deltas after the chunk's own take the others.
"""

import itertools
from collections import deque
from collections.abc import Sequence

import msgspec

from llmactors.backends.openai.responses.chunks import NO_TOKEN, Chunk
from llmactors.backends.stop_strings import StopStrings
from llmactors.messages import FinishReason, TokenDelta, TokenExtra, TokenLogprob, ToolCallDelta

MAX_CHARS_PER_TOKEN = 1024
_CHUNKS = 1000
_CHUNKS_PER_TOKEN = 8
"""The bound on chunks: a server may send each character of a token by itself, and chunks that bring nothing."""


class TextOverrun(ValueError):
    """The upstream sent more text, or more chunks, than the number of tokens asked for can have."""


class UpstreamAnswer:
    """The deltas of one stream.

    Args:
        stops: The stop strings of the request.
        max_tokens: How many deltas there may be.
        top_logprobs: How many of the most probable tokens the request asks for.
        least: How many tokens there must be before a stop string may end the answer.
        model: The name of the model, for the first delta; empty where the log needs no name.
    """

    def __init__(
        self, stops: Sequence[str], max_tokens: int, top_logprobs: int = 0, least: int = 0, *, model: str = ""
    ) -> None:
        self._stops = StopStrings(stops)
        self._max_tokens = max_tokens
        self._top_logprobs = top_logprobs
        self._least = least
        self._model = model
        self._logprobs: deque[TokenLogprob] = deque()
        """Log probabilities that no delta has taken yet."""
        self._reasoning: list[str] = []
        self._calls: list[ToolCallDelta] = []
        """Reasoning and calls that no delta has carried yet."""
        self._made = 0
        self._rest: list[str] = []
        """The texts behind the last delta that may be shown. They are joined once: there may be many."""
        self._pending: str | None = None
        """The text of a delta that is held back: its end may begin a stop string, or no delta may follow it."""
        self._chars = 0
        self._held = 0
        """How many characters are held back because they may begin a stop string."""
        self._completion_tokens = 0
        self.finish: FinishReason | None = None
        self.prompt_tokens = 0
        self.cached_tokens = 0
        """How many tokens of the prompt came from the upstream's cache."""
        self._chunks = 0
        self._is_counted = False
        """Whether the last chunk with content was followed by the upstream's count of the answer's tokens."""

    def __repr__(self) -> str:
        return f"<UpstreamAnswer {self._made} of {self._max_tokens} tokens, finish={self.finish}>"

    @property
    def stopped(self) -> bool:
        """Whether the text has reached a stop string: then nothing that follows changes the answer."""
        return self._stops.stopped

    @property
    def _has_parts(self) -> bool:
        return bool(self._reasoning or self._calls)

    @property
    def begun(self) -> bool:
        """Whether text has come, which may still be held back."""
        return self._chars > 0

    def take(self, chunk: Chunk) -> list[TokenDelta]:
        """Takes a chunk, and returns the deltas that may be shown now. Raises `TextOverrun`."""
        self.prompt_tokens = chunk.prompt_tokens or self.prompt_tokens
        self.cached_tokens = chunk.cached_tokens or self.cached_tokens
        self._completion_tokens = chunk.completion_tokens or self._completion_tokens
        has_content = bool(chunk.text or chunk.reasoning or chunk.tool_calls)
        self._is_counted = not has_content and (self._is_counted or (chunk.completion_tokens or 0) > 0)
        self._count_chunk()
        shown: list[TokenDelta] = []
        self._logprobs += chunk.logprobs[: self._max_tokens]
        # What comes behind a finish reason counts too: some servers send a reason with each chunk.
        if (chunk.reasoning or chunk.tool_calls) and not self.stopped:
            shown = self._add_parts(chunk)
        if chunk.text and not self.stopped:
            shown += self._add(chunk.text)
            while self._logprobs and self._pending is None and self._made + 1 < self._max_tokens:
                shown.append(self._show(""))
        if self.stopped:
            self.finish = "stop"
        elif chunk.finish is not None:
            self.finish = "length" if chunk.finish == "length" else "stop"
        return shown

    def take_plain(self, chunks: Sequence[Chunk], begin: int = 0) -> list[TokenDelta]:
        """As `take`, for plain chunks in the middle of an answer, which is the usual case and takes little time here.

        Takes the chunks from `begin` on, up to the first that is not plain, that may have to be held back, or that may
        be the last. Returns a delta for each chunk that was taken.
        """
        is_held = self._stops.is_given or self._pending is not None or self._has_parts or bool(self._logprobs)
        if is_held or self._model or self.finish is not None:
            return []
        deltas: list[TokenDelta] = []
        chars, most_chars = self._chars, self._max_tokens * MAX_CHARS_PER_TOKEN
        for chunk in itertools.islice(chunks, begin, begin + max(0, self._max_tokens - 1 - self._made)):
            if not chunk.is_plain or chars + len(chunk.text) > most_chars:
                break
            chars += len(chunk.text)
            deltas.append(TokenDelta(NO_TOKEN, chunk.text))
        if deltas:
            self._chars = chars
            self._made += len(deltas)
            self._is_counted = False
        return deltas

    def finish_without_reason(self, *, trusts_end: bool) -> bool:
        """Ends an answer whose stream ended in order, but without a finish reason. Returns whether the answer is whole.

        The end of a stream alone proves nothing: a proxy may write the end after it has lost its own upstream. So the
        answer is whole where the upstream has counted its tokens, or where `trusts_end` says so of the upstream.
        """
        if self.begun and (self._is_counted or trusts_end):
            self.finish = "length" if self._completion_tokens >= self._max_tokens else "stop"
        return self.finish is not None

    def close(self) -> list[TokenDelta]:
        """Ends a complete answer, and returns its last deltas."""
        last = []
        if self._pending is not None:
            text = "".join((self._pending, *self._rest, self._stops.flush()))
            last.append(self._show(text, stop=self._stops.stop))
        self._pending = None
        if self._has_parts and self._made < self._max_tokens:
            last.append(self._show(""))
        missing = min(self._completion_tokens, self._max_tokens) - self._made
        return last + [self._show("") for _ in range(missing)]

    def _add_parts(self, chunk: Chunk) -> list[TokenDelta]:
        """Takes the reasoning and the calls of a chunk, which the next delta carries."""
        self._count(len(chunk.reasoning) + sum(len(call.name) + len(call.arguments) for call in chunk.tool_calls))
        self._reasoning.append(chunk.reasoning)
        self._calls += chunk.tool_calls
        may_show = self._pending is None and self._made + 1 < self._max_tokens
        return [self._show("")] if may_show else []

    def _count_chunk(self) -> None:
        self._chunks += 1
        if self._chunks > _CHUNKS + self._max_tokens * _CHUNKS_PER_TOKEN:
            raise TextOverrun

    def _count(self, chars: int) -> None:
        self._chars += chars
        if self._chars > self._max_tokens * MAX_CHARS_PER_TOKEN:
            raise TextOverrun

    def _add(self, piece: str) -> list[TokenDelta]:
        self._count(len(piece))
        text = self._stops.feed(piece) if self._made + 1 >= self._least else piece
        self._held += len(piece) - len(text)
        before, self._pending = self._pending, text
        if before is not None and self._made + 1 >= self._max_tokens:
            self._rest.append(text)
            self._pending, before = before, None
        shown = [] if before is None else [self._show(before)]
        if (self.stopped or not self._held) and self._made + 1 < self._max_tokens:
            shown.append(self._show(text, stop=self._stops.stop))
            self._pending = None
        return shown

    def _show(self, text: str, *, stop: str = "") -> TokenDelta:
        self._made += 1
        extra = None
        if self._has_parts:
            extra = TokenExtra(reasoning="".join(self._reasoning), tool_calls=tuple(self._calls))
            self._reasoning, self._calls = [], []
        if self._model:
            extra = msgspec.structs.replace(extra or TokenExtra(), model=self._model)
            self._model = ""
        if stop:
            extra = msgspec.structs.replace(extra or TokenExtra(), stop=stop)
        if self._logprobs:
            logprob = self._logprobs.popleft()
            logprob = msgspec.structs.replace(logprob, top=logprob.top[: self._top_logprobs])
            extra = msgspec.structs.replace(extra or TokenExtra(), logprob=logprob)
        return TokenDelta(NO_TOKEN, text, extra)
