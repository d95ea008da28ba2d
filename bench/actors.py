"""What the actor runtime costs: a message against a bare memory channel, and a supervisor with many children.

    python -m bench.actors                 # half a minute
    python -m bench.actors --children 1000

All times are of the processor, so another program on the machine changes them little. Each message figure is the median
of several rounds, and the rounds of the runtime and of the channel take turns.
"""

import argparse
import gc
import random
import statistics
import time
import tracemalloc
from collections.abc import Awaitable, Callable

import attrs
import trio

from llmactors.actors import NO_BACKOFF, Actor, ActorSpec, Observer, SupervisorSpec, Tree

MESSAGES = 20_000
ROUNDS = 7
CRASHES = 1_000


@attrs.frozen
class Number:
    """A message that is answered with its number."""

    number: int


class Echo(Actor):
    """Answers each message with the number in the message."""

    async def on_message(self, message: Number) -> int:
        return message.number


async def _cpu_us(run: Callable[[], Awaitable[object]]) -> float:
    """The processor time of one message, in microseconds."""
    begun = time.process_time()
    await run()
    return (time.process_time() - begun) / MESSAGES * 1e6


async def _tell(spec: ActorSpec) -> None:
    """Sends all messages, and waits until the actor has handled them."""
    for number in range(MESSAGES):
        await spec.ref.tell(Number(number))
    await spec.ref.ask(Number(0))


async def _ask(spec: ActorSpec) -> None:
    for number in range(MESSAGES):
        assert await spec.ref.ask(Number(number)) == number


async def _one_way_channel() -> None:
    """What a tell is made of: a sender and a receiver at a bounded channel."""
    send, receive = trio.open_memory_channel[Number](64)

    async def consume() -> None:
        async for _ in receive:
            pass

    async with trio.open_nursery() as nursery, send:
        nursery.start_soon(consume)
        for number in range(MESSAGES):
            await send.send(Number(number))


async def _two_way_channel() -> None:
    """What an ask is made of: a channel for the questions, and a channel for the answer to each."""
    send, receive = trio.open_memory_channel[tuple[Number, trio.MemorySendChannel[int]]](64)

    async def answer() -> None:
        async for message, reply in receive:
            reply.send_nowait(message.number)

    async with trio.open_nursery() as nursery, send:
        nursery.start_soon(answer)
        for number in range(MESSAGES):
            give, get = trio.open_memory_channel[int](1)
            await send.send((Number(number), give))
            assert await get.receive() == number


async def messages() -> None:
    """Prints what a message costs, by turns."""
    spec = ActorSpec("echo", Echo)
    tree = Tree(SupervisorSpec("root", (spec,)))
    figures: dict[str, list[float]] = {}
    async with trio.open_nursery() as nursery:
        await nursery.start(tree.run)
        for _ in range(ROUNDS):
            for name, run in (
                ("channel, one way", _one_way_channel),
                ("tell", lambda: _tell(spec)),
                ("channel, there and back", _two_way_channel),
                ("ask", lambda: _ask(spec)),
            ):
                figures.setdefault(name, []).append(await _cpu_us(run))
        tree.stop()
    medians = {name: statistics.median(found) for name, found in figures.items()}
    for name, median in medians.items():
        print(f"{name:28} {median:8.2f} us")
    print(f"{'tell / channel':28} {medians['tell'] / medians['channel, one way']:8.2f}")
    print(f"{'ask / channel':28} {medians['ask'] / medians['channel, there and back']:8.2f}")


async def children(number: int) -> None:
    """Prints what many children of one supervisor cost."""
    gc.collect()
    tracemalloc.start()
    specs = tuple(ActorSpec(f"child-{each}", Echo) for each in range(number))
    root = SupervisorSpec("root", specs, intensity=10 * number, backoff=NO_BACKOFF)
    tracemalloc.stop()

    def report(what: str, begun: float, each: int = 1) -> None:
        spent = time.process_time() - begun
        more = f", {spent / each * 1e3:.3f} ms each" if each > 1 else ""
        print(f"{what:28} {spent:8.3f} s{more}")

    begun = time.process_time()
    starts = Starts()
    tree = Tree(root, observer=starts, rng=random.Random(1))
    report(f"build {number} children", begun)
    async with trio.open_nursery() as nursery:
        begun = time.process_time()
        await nursery.start(tree.run)
        report("start", begun, number)
        await _crash(tree, starts, [specs[number // 2]], report, "one restart")
        await _crash(
            tree, starts, list(specs[: min(CRASHES, number)]), report, f"{min(CRASHES, number)} crashes at once"
        )
        begun = time.process_time()
        tree.stop()
    report("stop", begun, number)


class Starts(Observer):
    """Counts the starts of actors."""

    def __init__(self) -> None:
        self._seen = 0
        self._wanted = 0
        self._done = trio.Event()

    def expect(self) -> None:
        """Counts from 0 again."""
        self._seen, self._wanted, self._done = 0, 0, trio.Event()

    def actor_started(self, actor: str, incarnation: int) -> None:  # noqa: ARG002 - the observer's interface
        self._seen += 1
        if self._seen == self._wanted:
            self._done.set()

    async def wait(self, number: int) -> None:
        """Returns after `number` starts."""
        self._wanted = number
        if self._seen < number:
            await self._done.wait()


async def _crash(
    tree: Tree, starts: Starts, specs: list[ActorSpec], report: Callable[[str, float, int], None], what: str
) -> None:
    starts.expect()
    nodes = {node.spec.ref: node for node in tree.actors()}
    begun = time.process_time()
    for spec in specs:
        nodes[spec.ref].crash(ValueError("a planned crash"))
    await starts.wait(len(specs))
    report(what, begun, len(specs))


async def memory(number: int) -> None:
    """Prints how much memory a running actor takes."""
    gc.collect()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    specs = tuple(ActorSpec(f"child-{each}", Echo) for each in range(number))
    tree = Tree(SupervisorSpec("root", specs))
    async with trio.open_nursery() as nursery:
        await nursery.start(tree.run)
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
        tree.stop()
    tracemalloc.stop()
    print(f"{'memory of an actor':28} {(after - before) / number / 1024:8.2f} KiB")


def main() -> None:
    """Runs all measurements."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--children", type=int, default=10_000)
    options = parser.parse_args()
    trio.run(messages)
    trio.run(children, options.children)
    trio.run(memory, min(options.children, 1_000))


if __name__ == "__main__":
    main()
