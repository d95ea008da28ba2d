"""The beginning of an answer: one upstream is asked, and a second one too where the first token of the first is late.

The first of the two to give a token wins. The other is cancelled, so its upstream stops. A race is over at the first
token: nothing of the loser is ever in the log, and the counts of tokens are the winner's.
"""

import math
from collections.abc import Awaitable, Callable, Sequence

import attrs
import trio

from llmactors.backends.openai.requests.call_trace import CANCELLED, CallTrace
from llmactors.backends.openai.responses.answer_stream import AnswerStream, EndedAnswer
from llmactors.backends.openai.routing.counters import FAILED, LOST, WON
from llmactors.backends.openai.routing.faults import UpstreamFault
from llmactors.backends.openai.routing.tries import Tries, Try
from llmactors.errors import LlmactorsError
from llmactors.messages import TokenDelta


@attrs.frozen
class BegunAnswer:
    """An answer whose first token has come. Whoever gets it must close it, and end its try."""

    tried: Try
    stream: AnswerStream | EndedAnswer
    deltas: Sequence[TokenDelta]
    is_whole: bool
    trace: CallTrace

    async def close(self) -> None:
        """Closes the stream. The trace ends as cancelled, unless it has ended before."""
        self.trace.end(ended=CANCELLED)
        await self.stream.close()


class Race:
    """One race between at most two tries, which it records in `tries`.

    Args:
        tries: The tries of the request.
        ask: Sends the request to the upstream of a try, and waits for its first token. Raises `UpstreamFault`, or the
            `LlmactorsError` for the client.
        fail: Records a fault. Raises the `LlmactorsError` for the client where no other try can help.
    """

    def __init__(
        self,
        tries: Tries,
        ask: Callable[[Try], Awaitable[BegunAnswer]],
        fail: Callable[[Try, UpstreamFault], None],
    ) -> None:
        self._tries = tries
        self._ask = ask
        self._fail = fail
        self._second: Try | None = None
        self._has_second_failed = False
        self._running = 0
        self._errors: list[LlmactorsError | None] = []
        """For each failed try the error for the client; None where another try may help."""
        self._winner: BegunAnswer | None = None

    def __repr__(self) -> str:
        return f"<Race of {self._running}, {'decided' if self._winner else 'open'}>"

    async def run(self, first: Try, late_s: float, second: Callable[[], Try | None]) -> BegunAnswer | None:
        """Returns the answer of the winner; None where every try failed and another one may help.

        Args:
            first: The try that begins at once.
            late_s: After how many seconds without a token a second try begins; infinite for never. While there is no
                upstream for the second try, the race looks for one again after the same time.
            second: Makes the second try; None where no upstream can be asked.

        Raises:
            LlmactorsError: Every try failed, and no other one can help.
        """
        if late_s == math.inf:
            await self._run_one(first, trio.CancelScope())
        else:
            await self._run_both(first, late_s, second)
        if self._winner is not None:
            self._tries.note_begin(self._winner.tried, trio.current_time())
            if self._second is not None and not self._has_second_failed:
                outcome = WON if self._winner.tried is self._second else LOST
                self._tries.count_second(self._second, outcome)
                if outcome == WON and not self._errors:
                    self._tries.note_lost_race(first)
        elif (error := self._errors[0]) is not None and None not in self._errors:
            raise error
        return self._winner

    async def _run_both(self, first: Try, late_s: float, second: Callable[[], Try | None]) -> None:
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._run_one, first, nursery.cancel_scope)
                while self._second is None:
                    await trio.sleep(late_s)
                    self._second = second()
                nursery.start_soon(self._run_one, self._second, nursery.cancel_scope)
        except BaseException:
            if self._winner is not None:  # the whole request was cancelled at the same time
                self._tries.end(self._winner.tried)
                await self._winner.close()
            raise

    async def _run_one(self, tried: Try, scope: trio.CancelScope) -> None:
        self._running += 1
        try:
            answer = await self._ask(tried)
            if self._winner is not None:  # both began in the same pass of the scheduler
                await answer.close()
                return
            self._winner = answer
            scope.cancel(reason="an upstream has begun the answer")
        except UpstreamFault as fault:
            self._note_fault(tried, fault)
        except LlmactorsError as error:  # a task's own exception would come out of the nursery in a group
            self._errors.append(error)
        finally:
            self._running -= 1
            if self._winner is None or self._winner.tried is not tried:
                self._tries.end(tried)
            if not self._running and self._winner is None:
                scope.cancel(reason="every upstream that was asked has failed")

    def _note_fault(self, tried: Try, fault: UpstreamFault) -> None:
        if tried is self._second:
            self._has_second_failed = True
            self._tries.count_second(tried, FAILED)
        try:
            self._fail(tried, fault)
        except LlmactorsError as error:
            self._errors.append(error)
        else:
            self._errors.append(None)
