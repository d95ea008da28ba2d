"""From the chunks of a stream that has token ids to the deltas of the log. Pure.

Each token becomes one delta with its id. The text of a chunk stands on the last token of the chunk.

The ids of the log and its text always belong together: whoever takes the answer over may go on behind the ids. So
tokens wait, and are shown together, while the text of the last one is not decided: where a character is incomplete, or
where the end of the text may be the beginning of a stop string. The upstream itself is told no stop strings, because it
would hold back texts, but not their ids.
"""

from collections.abc import Sequence

import msgspec

from llmactors.backends.openai.responses.answer import MAX_CHARS_PER_TOKEN, TextOverrun
from llmactors.backends.openai.responses.chunks import NO_TOKEN, Chunk
from llmactors.backends.stop_strings import StopStrings
from llmactors.messages import FinishReason, PromptTokens, TokenDelta, TokenExtra

MOST_PROMPT_IDS = 32_768
"""The longest prompt whose ids go into the log. Of a longer one, only the vocabulary goes into the log, and a takeover
renders the chat template again."""


class TokenAnswer:
    """The deltas of one stream.

    Args:
        stops: The stop strings of the request.
        max_tokens: How many deltas there may be.
        top_logprobs: How many of the most probable tokens the request asks for.
        least: How many tokens there must be before a stop string may end the answer.
        vocabulary: The fingerprint of the upstream's vocabulary.
        prompt_ids: The ids of the prompt, where they are known already.
        logged: How many tokens the answer has before this stream. The first delta of an answer carries the ids of the
            prompt.
        model: The name of the model, for the first delta; empty where the log needs no name.
    """

    def __init__(
        self,
        stops: Sequence[str],
        max_tokens: int,
        top_logprobs: int,
        least: int,
        *,
        vocabulary: str,
        prompt_ids: Sequence[int] = (),
        logged: int = 0,
        model: str = "",
    ) -> None:
        self._stops = StopStrings(stops)
        self._max_tokens = max_tokens
        self._top_logprobs = top_logprobs
        self._least = least
        self._vocabulary = vocabulary
        self._prompt_ids = prompt_ids
        self._logged = logged
        self._is_first = not logged
        """Whether the next delta is the first one of the answer."""
        self._model = model
        self._held: list[TokenDelta] = []
        """Deltas whose text is not decided yet. Their texts are as the upstream sent them."""
        self._certain = ""
        """The part of the text of the held deltas that holds no stop string."""
        self._made = 0
        self._chars = 0
        self._completion_tokens = 0
        self._told_prompt_tokens = 0
        self.cached_tokens = 0
        """How many tokens of the prompt came from the upstream's cache."""
        self.finish: FinishReason | None = None

    def __repr__(self) -> str:
        return f"<TokenAnswer {self._made} of {self._max_tokens} tokens, {len(self._held)} held, finish={self.finish}>"

    @property
    def prompt_tokens(self) -> int:
        """The length of what the upstream has read: the prompt, and the answer before this stream."""
        if self._told_prompt_tokens or not self._prompt_ids:
            return self._told_prompt_tokens
        return len(self._prompt_ids) + self._logged

    @property
    def stopped(self) -> bool:
        """Whether the text has reached a stop string: then nothing that follows changes the answer."""
        return self._stops.stopped

    @property
    def begun(self) -> bool:
        """Whether a token has come, which may still be held back."""
        return self._made > 0

    def take(self, chunk: Chunk) -> list[TokenDelta]:
        """Takes a chunk, and returns the deltas that may be shown now. Raises `TextOverrun`."""
        self._told_prompt_tokens = chunk.prompt_tokens or self._told_prompt_tokens
        self.cached_tokens = chunk.cached_tokens or self.cached_tokens
        self._completion_tokens = chunk.completion_tokens or self._completion_tokens
        # A stream that goes on calls the answer before it a part of its prompt.
        self._prompt_ids = self._prompt_ids or chunk.prompt_ids
        shown: list[TokenDelta] = []
        if not self.stopped and self.finish is None and self._add(chunk):
            shown = self._decide(chunk)
        if self.stopped:
            self.finish = "stop"
        elif chunk.finish is not None and self.finish is None:
            self.finish = "length" if chunk.finish == "length" else "stop"
        return shown

    def take_plain(self, chunks: Sequence[Chunk], begin: int = 0) -> list[TokenDelta]:  # noqa: ARG002
        """As `UpstreamAnswer.take_plain`. No chunk with ids is plain."""
        return []

    def finish_without_reason(self, *, trusts_end: bool) -> bool:
        """Ends an answer whose stream ended in order, but without a finish reason. Returns whether the answer is whole.

        A server that works with ids names a reason. So only `trusts_end` can say that the answer is whole.
        """
        if self.begun and trusts_end:
            self.finish = "length" if self._made >= self._max_tokens else "stop"
        return self.finish is not None

    def close(self) -> list[TokenDelta]:
        """Ends a complete answer, and returns its last deltas."""
        missing = min(self._completion_tokens, self._max_tokens) - self._made
        if missing > 0 and not self.stopped:
            self._held += [TokenDelta(NO_TOKEN, "") for _ in range(missing)]
            self._made += missing
        self._stops.flush()
        return self._show()

    def _add(self, chunk: Chunk) -> bool:
        """Adds the tokens of a chunk. Returns whether the chunk has something to show, besides ids."""
        told = bool(chunk.text or chunk.reasoning or chunk.tool_calls)
        ids = chunk.ids or ((NO_TOKEN,) if told else ())
        self._chars += len(chunk.text) + len(chunk.reasoning)
        self._chars += sum(len(call.name) + len(call.arguments) for call in chunk.tool_calls)
        if self._made + len(ids) > self._max_tokens or self._chars > self._max_tokens * MAX_CHARS_PER_TOKEN:
            raise TextOverrun
        for place, token in enumerate(ids):
            is_last = place + 1 == len(ids)
            extra = TokenExtra(reasoning=chunk.reasoning, tool_calls=chunk.tool_calls) if is_last else TokenExtra()
            if place < len(chunk.logprobs):
                logprob = chunk.logprobs[place]
                logprob = msgspec.structs.replace(logprob, top=logprob.top[: self._top_logprobs])
                extra = msgspec.structs.replace(extra, logprob=logprob)
            self._held.append(TokenDelta(token, chunk.text if is_last else "", _unless_empty(extra)))
        self._made += len(ids)
        return told

    def _decide(self, chunk: Chunk) -> list[TokenDelta]:
        """Shows what is held, unless the text may go on to a stop string."""
        text = chunk.text
        self._certain += self._stops.feed(text) if self._made >= self._least else self._stops.flush() + text
        if self.stopped:
            last = self._held[-1].extra or TokenExtra()
            cut = [msgspec.structs.replace(delta, text="") for delta in self._held]
            self._held = cut
            self._held[-1] = TokenDelta(
                cut[-1].token, self._certain, msgspec.structs.replace(last, stop=self._stops.stop)
            )
        elif self._stops.holds_text:
            return []
        return self._show()

    def _show(self) -> list[TokenDelta]:
        shown, self._held, self._certain = self._held, [], ""
        if shown and self._is_first:
            self._is_first = False
            extra = msgspec.structs.replace(shown[0].extra or _EMPTY, prompt=self._prompt(), model=self._model)
            shown[0] = msgspec.structs.replace(shown[0], extra=_unless_empty(extra))
        return shown

    def _prompt(self) -> PromptTokens | None:
        if not self._vocabulary:
            return None
        ids = self._prompt_ids if len(self._prompt_ids) <= MOST_PROMPT_IDS else ()
        return PromptTokens.of(ids, self._vocabulary)


def _unless_empty(extra: TokenExtra) -> TokenExtra | None:
    return None if extra == _EMPTY else extra


_EMPTY = TokenExtra()
