"""What one answer of one upstream waits for, and for how long."""

import pytest
import trio
from trio.testing import MockClock

from llmactors.backends.openai import OpenAISettings
from llmactors.backends.openai.requests.opening import Opening
from llmactors.backends.openai.requests.upstream import ChunkStream
from llmactors.backends.openai.responses.answer import UpstreamAnswer
from llmactors.backends.openai.responses.answer_stream import AnswerStream
from llmactors.backends.openai.responses.chunks import Chunk, ChunkReader
from llmactors.backends.openai.routing.faults import FaultKind, UpstreamFault
from llmactors.http.client_response import Absorb
from llmactors.messages import GenerateRequest

COMMENT = b": still here\n\n"


class StoppedStream(ChunkStream):
    """Gives one piece at a time, as TLS does. The first piece is read after a stop of the process for 100 s."""

    def __init__(self, pieces: list[bytes]) -> None:
        self.pieces = pieces
        self.reads = 0

    async def receive(self, deadline: float, absorb: Absorb | None = None) -> bytes:
        del absorb
        self.reads += 1
        if self.reads == 1:
            await trio.sleep(100)
        elif not self.pieces:
            with trio.fail_at(max(deadline, trio.current_time() + 0.01)):
                await trio.sleep_forever()
        return self.pieces.pop(0)

    def read(self, data: bytes) -> list[Chunk]:
        return [] if data == COMMENT else [Chunk(data.decode())]


def answer_of(pieces: list[bytes]) -> AnswerStream:
    opening = Opening("chat/completions", {}, ChunkReader(), UpstreamAnswer((), 8))
    settings = OpenAISettings.parse("http://host/v1,model=m,silence_s=30")
    return AnswerStream(StoppedStream(pieces), opening, GenerateRequest("r", "m", "p"), settings, first_by=30.0)


async def test_token_behind_comments_is_read_after_a_stop(autojump_clock: MockClock) -> None:
    deltas, is_last = await answer_of([COMMENT] * 9 + [b"token"]).next()
    assert ([delta.text for delta in deltas], is_last) == (["token"], False)


@pytest.mark.parametrize("comments", [9, 100_000])
async def test_comments_alone_are_silence(autojump_clock: MockClock, comments: int) -> None:
    with pytest.raises(UpstreamFault) as caught:
        await answer_of([COMMENT] * comments).next()
    assert caught.value.kind is FaultKind.SILENT
