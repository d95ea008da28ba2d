"""One answer while llama.cpp makes it: turns the events of a stream into the deltas of the log. Pure.

llama.cpp sends no event for a token that ends inside of a character: the next event tells the text of both, and the
id of the last. The count `tokens_predicted` gives this away. The missing ids follow from the bytes nearly always;
where they do not, `hidden` says how many must be asked for.

An answer that must be `exact` after a takeover is not continued but made again from its beginning: the logged tokens
went through the model one by one, and as one long prompt they would be rounded differently. What comes is compared
with the log, and is new from the log's end on.
"""

import itertools
from collections import deque
from collections.abc import Sequence

import attrs

from llmactors.backends.llama.detokenize import Detokenizer
from llmactors.backends.llama.vocabulary import Vocabulary
from llmactors.messages import FinishReason, GenerateRequest, TokenDelta


@attrs.frozen
class CompletionEvent:
    """What one event of a completion stream says."""

    text: str
    tokens: Sequence[int]
    predicted: int
    """How many tokens this stream has made so far, with those that were not sent."""
    ended: str | None = None
    """In the last event: `eos`, `limit` and others."""


class LlamaAnswer:
    """The tokens so far, the text so far, and how it ended."""

    def __init__(self, vocabulary: Vocabulary, request: GenerateRequest, logged: Sequence[TokenDelta]) -> None:
        self._vocabulary = vocabulary
        self._max_tokens = request.max_tokens
        self._text = Detokenizer(vocabulary, request.stop)
        self._silent: int | None = None
        """A token without text, kept until the next event tells whether it ended the answer."""
        self._predicted = 0
        self._replay: deque[int] = deque()
        self.ids: list[int] = []
        self.finish: FinishReason | None = None
        self.hidden = 0
        """How many tokens llama.cpp made and did not tell. They must be asked for by other means."""
        self.diverged = False
        """What was made again is not what the log holds."""
        for delta in logged:
            self._add(delta.token)

    def __repr__(self) -> str:
        return f"<LlamaAnswer {len(self.ids)} of {self._max_tokens} tokens, finish={self.finish}>"

    @property
    def left(self) -> int:
        """How many tokens may still come."""
        return self._max_tokens - len(self.ids)

    @property
    def finished(self) -> bool:
        """No token may follow."""
        return self.finish is not None

    @property
    def over(self) -> bool:
        """The stream can add nothing: the answer is finished, or must be continued by another stream."""
        return self.finished or self.diverged or self.hidden > 0

    @property
    def replaying(self) -> int:
        """How many of the logged tokens must still be made again."""
        return len(self._replay)

    def limit(self, max_tokens: int) -> None:
        """Only so many may come in all. Before the first of them."""
        self._max_tokens = max_tokens

    def begin(self, *, again: bool) -> None:
        """A new stream begins: at the log's end, or `again` at the answer's beginning."""
        self._predicted = 0
        self._silent = None
        self._replay = deque(self.ids if again else ())
        self.hidden = 0
        self.diverged = False

    def take(self, event: CompletionEvent) -> list[TokenDelta]:
        """The new deltas. Not to be called once it is `over`."""
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
        if event.ended is not None and not self.over:
            if self._replay:
                self.diverged = True
            else:
                self.finish = "length" if event.ended == "limit" else "stop"
        return deltas

    def take_whole(self, ids: Sequence[int], *, eos: bool) -> list[TokenDelta]:
        """The deltas of hidden tokens that were asked for by themselves; `eos`: the last of them ends the answer."""
        self.hidden = 0
        deltas: list[TokenDelta] = []
        for place, token in enumerate(ids, start=1):
            if not self.over:
                deltas += self._make(token, ends=eos and place == len(ids))
        return deltas

    def _recover(self, event: CompletionEvent, missing: int) -> tuple[int, ...] | None:
        """All ids of an event that has `missing` too few."""
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
        text = self._text.feed(token, last=ends or full)
        if self._text.stopped or ends:
            self.finish = "stop"
        elif full:
            self.finish = "length"
        return TokenDelta(token, text)
