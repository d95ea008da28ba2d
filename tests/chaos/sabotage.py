"""Faults inside of a process, which a signal causes: the crash of one of its actors, and a wall clock that jumps.

A process calls `accept_sabotage` before it starts. Only processes of tests do.
"""

import itertools
import os
import random
import signal
import time
from typing import Any

import trio

from llmactors.actors import Tree
from llmactors.actors.errors import MisuseError

CRASH_ACTOR = signal.SIGRTMIN + 1
"""Crashes an actor of the process, another one with each signal."""
SHIFT_CLOCK = signal.SIGRTMIN + 2
"""Sets the wall clock of the process to a wrong time of up to a day before or after, and the next signal to the right
time.
"""
_DAY_S = 86_400


class Sabotage(Exception):
    """The exception that ends an actor."""


def accept_sabotage() -> None:
    """Makes the signals above do in this process what they say."""
    rng = random.Random(os.getpid())
    trees: list[tuple[Tree, trio.lowlevel.TrioToken]] = []
    run, real_time, real_time_ns = Tree.run, time.time, time.time_ns
    shift_s = 0

    async def run_and_note(tree: Tree, **status: Any) -> None:
        trees.append((tree, trio.lowlevel.current_trio_token()))
        await run(tree, **status)

    def crash_actor(tree: Tree) -> None:
        running = [actor for actor in tree.actors() if actor.spec.ref.running]
        if running:
            try:
                rng.choice(running).crash(Sabotage("a test crashes this actor"))
            except MisuseError:
                return  # the actor is ending already

    def on_crash(*_: object) -> None:
        for tree, token in trees:
            # A signal comes between any two steps of the event loop, so the loop itself crashes the actor.
            token.run_sync_soon(crash_actor, tree)

    shifts = itertools.cycle((True, False))

    def on_shift(*_: object) -> None:
        nonlocal shift_s
        shift_s = rng.randint(-_DAY_S, _DAY_S) if next(shifts) else 0

    Tree.run = run_and_note  # type: ignore[assignment, method-assign]
    time.time = lambda: real_time() + shift_s
    time.time_ns = lambda: real_time_ns() + shift_s * 10**9
    signal.signal(CRASH_ACTOR, on_crash)
    signal.signal(SHIFT_CLOCK, on_shift)
