"""Timers of an incarnation, which send messages to its own actor."""

import trio

from llmactors.actors.envelope import Envelope
from llmactors.actors.errors import ActorDied, MailboxFull
from llmactors.actors.mailbox import Mailbox


class Timer:
    """Sends one message once or again and again, to one incarnation.

    A timer that finds the mailbox full waits for room. Where the mailbox refuses instead, the message is given up as an
    overflow. Times that pass meanwhile are left out, so that a slow actor does not get its ticks in a burst.
    """

    def __init__(self, mailbox: Mailbox, incarnation: int, message: object) -> None:
        self._mailbox = mailbox
        self._incarnation = incarnation
        self._message = message
        self._scope = trio.CancelScope()

    def __repr__(self) -> str:
        return f"<Timer of {self._mailbox.owner}#{self._incarnation}: {type(self._message).__name__}>"

    def cancel(self) -> None:
        """Sends nothing more. A message that is in the mailbox already is still handled."""
        self._scope.cancel(reason="the timer was cancelled")

    async def run_once(self, delay_s: float) -> None:
        """Sends the message after `delay_s` seconds. For the runtime only."""
        with self._scope:
            await trio.sleep(delay_s)
            await self._tick()

    async def run_again(self, period_s: float) -> None:
        """Sends the message every `period_s` seconds, for the first time after one period. For the runtime only."""
        due = trio.current_time() + period_s
        with self._scope:
            while True:
                await trio.sleep_until(due)
                await self._tick()
                due += period_s * max(1.0, (trio.current_time() - due) // period_s + 1)

    async def _tick(self) -> None:
        envelope = Envelope(self._message, incarnation=self._incarnation)
        try:
            await self._mailbox.put(envelope)
        except MailboxFull:
            self._mailbox.on_overflow(envelope)
        except ActorDied:
            self.cancel()
