"""Where the runtime tells what happens in it: logs and metrics hang themselves on here."""

from llmactors.actors.envelope import Exit


class Observer:
    """Hears everything, says nothing. Override what you want to hear; a method must not raise and must not block."""

    def actor_started(self, actor: str, incarnation: int) -> None:
        """An incarnation is up."""

    def actor_exited(self, actor: str, incarnation: int, exit_: Exit) -> None:
        """An incarnation ended, for whatever reason."""

    def restarting(
        self, supervisor: str, children: tuple[str, ...], exit_: Exit, *, delay_s: float, count: int, intensity: int
    ) -> None:
        """`children` will be started in `delay_s` seconds. `count` of `intensity` restarts are used up."""

    def gave_up(self, supervisor: str, child: str, exit_: Exit) -> None:
        """A supervisor's intensity was exceeded by `child`: it stops its children and escalates."""

    def dead_letter(self, actor: str, reason: str, message_type: str, cause: str) -> None:
        """A message was given up."""
