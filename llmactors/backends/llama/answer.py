"""From the events of llama.cpp's streams to the deltas of the log. Pure.

llama.cpp sends no event for a token that ends inside of a character: the next event has the text of both tokens, and
the id of the last one only. The count `tokens_predicted` shows that a token is missing. The missing ids follow from the
bytes nearly always; where they do not, `hidden` is the number of ids that must be asked for.

An answer that must be `exact` after a takeover is not continued but made again from its beginning: the logged tokens
went through the model one by one, and as one long prompt they would be rounded differently. The tokens that come are
compared with the log; from the end of the log on they are new.
"""

import codecs
import itertools
from collections import deque
from collections.abc import Sequence

import attrs
import msgspec

from llmactors.backends.llama.detokenize import Detokenizer
from llmactors.backends.llama.vocabulary import Vocabulary
from llmactors.messages import FinishReason, GenerateRequest, TokenDelta, TokenExtra, TokenLogprob


@attrs.frozen
class CompletionEvent:
    """What one event of a completion stream says."""

    text: str
    tokens: Sequence[int]
    predicted: int
    """How many tokens this stream has made so far, with those that were not sent."""
    ended: str | None = None
    """Why the stream ended, in its last event: `eos`, `limit` or another reason."""
    logprob: TokenLogprob | None = None
    """How probable the last of these tokens was, where the request asks for probabilities. The text is that of all of
    the event."""


class LlamaAnswer:
    """The tokens of one answer so far, its text so far, and how the answer ended."""

    def __init__(self, vocabulary: Vocabulary, request: GenerateRequest, logged: Sequence[TokenDelta]) -> None:
        self._vocabulary = vocabulary
        self._max_tokens = request.max_tokens
        self._min_tokens = request.min_tokens
        self._top_logprobs = request.top_logprobs or 0
        self._text = Detokenizer(vocabulary, request.stop)
        self._silent: int | None = None
        """A token without text, kept until the next event shows whether this token ended the answer."""
        self._predicted = 0
        self._replay: deque[int] = deque()
        self.ids: list[int] = []
        self.finish: FinishReason | None = None
        self.hidden = 0
        """How many tokens llama.cpp made without sending their ids. `complete` of the client finds these ids."""
        self.diverged = False
        """Whether the answer that was made again differs from the log."""
        self.forced = False
        """Whether the grammar of a lazy constraint has to hold from here on, although the text lacks its trigger."""
        self._overshot = False
        self._has_least = False
        """Whether the stream ended at the least length of the answer, and another stream goes on."""
        for delta in logged:
            self._add(delta.token)

    def __repr__(self) -> str:
        return f"<LlamaAnswer {len(self.ids)} of {self._max_tokens} tokens, finish={self.finish}>"

    @property
    def data(self) -> bytes:
        """The bytes of all tokens so far, with what a stop string cut."""
        return self.data_of(len(self.ids))

    def data_of(self, count: int) -> bytes:
        """The bytes of the first `count` tokens, with what a stop string cut."""
        return b"".join(map(self._vocabulary.piece, self.ids[:count]))

    @property
    def holds_text(self) -> bool:
        """Whether text is held back that may belong to a stop string. The next token decides, also if it is the end."""
        return self._text.holds_text

    @property
    def finished(self) -> bool:
        """Whether the answer has ended: no token may follow."""
        return self.finish is not None

    @property
    def over(self) -> bool:
        """Whether the stream can add nothing more: the answer is finished, or needs another stream."""
        return self.finished or self.diverged or self._overshot or self._has_least or self.hidden > 0

    @property
    def replaying(self) -> int:
        """How many of the logged tokens must still be made again."""
        return len(self._replay)

    def limit(self, max_tokens: int) -> None:
        """Sets how many tokens the answer may have in all. Call this before the first token."""
        self._max_tokens = max_tokens

    def begin(self, *, again: bool) -> tuple[int, int]:
        """Prepares for a new stream. Returns how many tokens of the answer come before the stream, and how many tokens
        the stream may have.

        The stream begins at the log's end, or makes logged tokens `again`. An answer with a least length takes two
        streams, of which the first one ignores the end of the answer and ends at that length.
        """
        least = min(self._min_tokens, self._max_tokens)
        position = len(self.ids)
        if again:
            position = least if position >= least else 0
        self._predicted = 0
        self._silent = None
        self._has_least = False
        self._replay = deque(self.ids[position:])
        self.hidden = 0
        self.diverged = False
        self._overshot = False
        return position, (least if position < least else self._max_tokens) - position

    def force(self) -> None:
        """Ends the stream: its last token went beyond the trigger of a lazy grammar in a way that is not allowed."""
        self.forced = self._overshot = True

    def take(self, event: CompletionEvent) -> list[TokenDelta]:
        """Takes one event, and returns the new deltas. Do not call this once the answer is `over`."""
        deltas: list[TokenDelta] = []
        if self._silent is not None:
            silent, self._silent = self._silent, None
            deltas += self._make(silent, ends=event.ended == "eos")
        missing = event.predicted - self._predicted - len(event.tokens)
        self._predicted = event.predicted
        ids = self._recover(event, missing) if missing > 0 else tuple(event.tokens)
        if ids is None:
            self.hidden = missing
            return deltas
        for token in ids:
            if not self.over:
                if self._vocabulary.piece(token) and event.text:
                    deltas += self._make(token)
                else:
                    self._silent = token
        if event.logprob is not None and event.text and deltas and deltas[-1].token == event.tokens[-1]:
            logprob = msgspec.structs.replace(event.logprob, top=event.logprob.top[: self._top_logprobs])
            deltas[-1] = msgspec.structs.replace(deltas[-1], extra=TokenExtra(logprob=logprob, stop=self._text.stop))
        if event.ended is not None and not self.over:
            if self._replay:
                self.diverged = True
            elif event.ended == "limit" and len(self.ids) == self._min_tokens < self._max_tokens:
                self._has_least = True
            else:
                self.finish = "length" if event.ended == "limit" else "stop"
        return deltas

    def shortest_hidden(self, ids: Sequence[int]) -> Sequence[int]:
        """The first of the ids of the hidden tokens and of those that follow, so many that no character is cut.

        All ids, where each place is inside of a character.
        """
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        decoder.decode(self.data)
        for place, token in enumerate(ids, start=1):
            decoder.decode(self._vocabulary.piece(token))
            if place >= self.hidden and not decoder.getstate()[0]:
                return ids[:place]
        return ids

    def take_whole(self, ids: Sequence[int], *, eos: bool) -> list[TokenDelta]:
        """Takes the ids of the hidden tokens, and returns their deltas. `eos`: the last of them ends the answer."""
        self.hidden = 0
        deltas: list[TokenDelta] = []
        for place, token in enumerate(ids, start=1):
            if not self.over:
                deltas += self._make(token, ends=eos and place == len(ids))
        return deltas

    def _recover(self, event: CompletionEvent, missing: int) -> tuple[int, ...] | None:
        """All ids of an event in which `missing` ids are missing; None where they do not follow from the bytes."""
        data = event.text.encode()
        logged = tuple(itertools.islice(self._replay, missing + len(event.tokens)))
        if data and b"".join(map(self._vocabulary.piece, logged)) == data and logged[missing:] == tuple(event.tokens):
            return logged
        known = b"".join(map(self._vocabulary.piece, event.tokens))
        if not known or not data.endswith(known):
            return None
        spelled = self._vocabulary.spell(data[: -len(known)], missing)
        return None if spelled is None else (*spelled, *event.tokens)

    def _make(self, token: int, *, ends: bool = False) -> list[TokenDelta]:
        if self._replay:
            self.diverged = self._replay.popleft() != token
            return []
        return [self._add(token, ends=ends)]

    def _add(self, token: int, *, ends: bool = False) -> TokenDelta:
        self.ids.append(token)
        full = len(self.ids) >= self._max_tokens
        text = self._text.feed(token, last=ends or full, may_stop=len(self.ids) >= self._min_tokens)
        if self._text.stopped or ends:
            self.finish = "stop"
        elif full:
            self.finish = "length"
        return TokenDelta(token, text, TokenExtra(stop=self._text.stop) if self._text.stop else None)
