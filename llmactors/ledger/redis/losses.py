"""Counts and logs what Redis has lost of what it had acknowledged, and what became of that."""

import enum
from collections import Counter

import structlog

log = structlog.get_logger("llmactors.ledger")

_NAMED = 5


class RedisLoss(enum.Enum):
    """What became of a request of which Redis has lost something."""

    RESTORED = "restored"
    """Redis did not know the request any more, and got it back with its tokens."""
    EXTENDED = "extended"
    """The end of a log was gone, and the log got its tokens back, from a gateway or from the worker that made them."""
    ENDED = "ended"
    """The answer ended with `INTERRUPTED`, because what clients have got and what Redis has contradict each other."""


class RedisLosses:
    """All losses that one node has seen. Call `say` after each look at the logs: it writes one line for one loss of
    Redis, however many requests that loss concerns and however many looks find them.
    """

    def __init__(self) -> None:
        self.counts: Counter[RedisLoss] = Counter(dict.fromkeys(RedisLoss, 0))
        """Since the start of the process."""
        self._unsaid: Counter[RedisLoss] = Counter()
        self._is_growing = False
        """Whether a loss was noted since the last call of `say`."""
        self._tokens = 0
        self._requests: list[str] = []

    def __repr__(self) -> str:
        return f"<RedisLosses {', '.join(f'{count} {loss.value}' for loss, count in self.counts.items())}>"

    def note(self, loss: RedisLoss, request_id: str, *, tokens: int = 0) -> None:
        """Counts a loss. `tokens` are those that Redis got back."""
        self.counts[loss] += 1
        self._unsaid[loss] += 1
        self._is_growing = True
        self._tokens += tokens
        if len(self._requests) < _NAMED:
            self._requests.append(request_id)

    def say(self) -> None:
        """Logs the losses since the last line, if there were any and the last look found no more of them."""
        was_growing, self._is_growing = self._is_growing, False
        if was_growing or not self._unsaid:
            return
        log.warning(
            "Redis has lost writes that it had acknowledged",
            **{loss.value: self._unsaid[loss] for loss in RedisLoss},
            tokens_given_back=self._tokens,
            some_request_ids=self._requests,
        )
        self._unsaid.clear()
        self._tokens, self._requests = 0, []
