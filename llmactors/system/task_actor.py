"""An actor that runs one long-lived task, such as a link or a ledger, whose object others use directly."""

from collections.abc import Awaitable, Callable

from llmactors.actors import Actor, Context


class TaskActor(Actor):
    """Runs `run`, which must report `task_status.started()`. A crash of the task is a crash of the actor."""

    def __init__(self, run: Callable[..., Awaitable[object]]) -> None:
        self._run = run

    async def on_start(self, context: Context) -> None:
        await context.start(self._run)
