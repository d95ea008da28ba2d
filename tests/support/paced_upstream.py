"""Upstreams without sockets, for a virtual clock: each answers its requests after the delays that a test gives."""

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import trio

from llmactors.backends.openai.engines.engine import Reader
from llmactors.backends.openai.requests.call_trace import UNTRACED, CallTrace
from llmactors.backends.openai.requests.upstream import ChunkStream, Upstream
from llmactors.backends.openai.responses.chunks import Chunk
from llmactors.backends.openai.routing.faults import UpstreamFault
from llmactors.http.client_response import Absorb

Step = tuple[float, Chunk | UpstreamFault]
"""A pause in seconds, and the chunk or fault after the pause."""


def words(first_s: float, *texts: str, step_s: float = 0.1) -> list[Step]:
    """A whole answer, whose first token comes after `first_s`."""
    steps: list[Step] = [(step_s if place else first_s, Chunk(text)) for place, text in enumerate(texts)]
    return [*steps, (0.0, Chunk("", "stop", 7, len(texts))), (0.0, Chunk(done=True))]


@attrs.define(eq=False)
class PacedStream(ChunkStream):
    """The stream of one answer."""

    steps: list[Step]
    closed: bool = False
    received: list[Chunk] = attrs.field(factory=list)

    async def receive(self, deadline: float, absorb: Absorb | None = None) -> bytes:
        del absorb
        with trio.fail_at(deadline):
            if not self.steps:
                await trio.sleep_forever()
            pause_s, found = self.steps.pop(0)
            await trio.sleep(pause_s)
        if isinstance(found, UpstreamFault):
            raise found
        self.received.append(found)
        return b"a chunk"

    def read(self, data: bytes) -> list[Chunk]:
        del data
        return [self.received.pop()]

    async def close(self) -> None:
        self.closed = True


@attrs.define(eq=False)
class PacedUpstream(Upstream):
    """Answers the n-th request with the n-th of `answers`; later requests get the last one."""

    answers: Sequence[Sequence[Step]]
    streams: list[PacedStream] = attrs.field(factory=list)
    fault: UpstreamFault | None = None
    """Why the list of models does not come."""
    lists: int = 0
    """How often the list of models was asked for."""

    async def open(
        self, route: str, body: Mapping[str, Any], reader: Reader, trace: CallTrace = UNTRACED
    ) -> ChunkStream:
        del route, body, reader, trace
        await trio.lowlevel.checkpoint()
        stream = PacedStream(list(self.answers[min(len(self.streams), len(self.answers) - 1)]))
        self.streams.append(stream)
        return stream

    async def list_models(self) -> None:
        await trio.sleep(0.1)
        self.lists += 1
        if self.fault is not None:
            raise self.fault

    def close(self) -> None:
        pass
