"""From chunks with token ids to the log: ids and texts belong together wherever the log ends."""

import msgspec
import pytest

from llmactors.backends.openai.continuation.chooser import AnswerSoFar, StrategyChooser
from llmactors.backends.openai.continuation.strategy import ContinuationStrategy, LoggedAnswer, UnknownIds
from llmactors.backends.openai.engines import ENGINES
from llmactors.backends.openai.engines.llamacpp import CompletionReader
from llmactors.backends.openai.engines.sglang import GenerateReader
from llmactors.backends.openai.responses.answer import TextOverrun
from llmactors.backends.openai.responses.chunks import NO_TOKEN, BadChunk, Chunk
from llmactors.backends.openai.responses.token_answer import MOST_PROMPT_IDS, TokenAnswer
from llmactors.backends.openai.routing.faults import FaultKind, in_stream_fault
from llmactors.backends.openai.settings import OpenAISettings
from llmactors.ledger.redis.codec import decode_tokens, encode_tokens
from llmactors.messages import Constraint, GenerateRequest, PromptTokens, TokenDelta, TokenExtra


def answer(*stops: str, room: int = 20, least: int = 0, logged: int = 0) -> TokenAnswer:
    return TokenAnswer(stops, room, 0, least, vocabulary="v", prompt_ids=(7, 8), logged=logged)


def plain(found: list[TokenDelta]) -> list[tuple[int, str]]:
    return [(delta.token, delta.text) for delta in found]


def test_first_token_carries_the_prompt() -> None:
    found = answer()
    [first] = found.take(Chunk("a", ids=(1,)))
    [second] = found.take(Chunk("b", ids=(2,)))
    assert first.extra is not None
    assert first.extra.prompt == PromptTokens.of((7, 8), "v")
    assert second.extra is None
    assert answer(logged=3).take(Chunk("a", ids=(1,)))[0].extra is None


def test_prompt_survives_the_encoding_of_a_log() -> None:
    prompt = PromptTokens.of((0, 1, 2**31 - 1), "v")
    for text in ("a", "\ud800"):
        deltas = [TokenDelta(1, text, TokenExtra(prompt=prompt))]
        [read] = decode_tokens(encode_tokens(deltas))
        assert read.extra is not None
        assert read.extra.prompt == prompt
    assert prompt.ids == (0, 1, 2**31 - 1)


def test_prompt_of_great_length_stays_out_of_the_log() -> None:
    found = TokenAnswer((), 2, 0, 0, vocabulary="v", prompt_ids=(1,) * (MOST_PROMPT_IDS + 1))
    assert found.take(Chunk("a", ids=(1,)))[0].extra == TokenExtra(prompt=PromptTokens.of((), "v"))


def test_ids_wait_for_the_end_of_a_character() -> None:
    found = answer()
    assert found.take(Chunk(ids=(1,))) == []
    assert found.take(Chunk(ids=(2,))) == []
    assert plain(found.take(Chunk("\N{EURO SIGN}", ids=(3,)))) == [(1, ""), (2, ""), (3, "\N{EURO SIGN}")]


def test_ids_wait_while_a_stop_string_may_come() -> None:
    found = answer("END")
    assert found.take(Chunk("aE", ids=(1,))) == []
    assert plain(found.take(Chunk("x", ids=(2,)))) == [(1, "aE"), (2, "x")]
    assert found.take(Chunk("bEN", ids=(3,))) == []
    shown = found.take(Chunk("Dc", ids=(4,)))
    assert (plain(shown), found.finish) == ([(3, ""), (4, "b")], "stop")
    assert shown[-1].extra == TokenExtra(stop="END")


def test_least_length_comes_before_a_stop_string() -> None:
    found = answer("b", least=2)
    assert plain(found.take(Chunk("b", ids=(1,)))) == [(1, "b")]
    assert found.take(Chunk("b", ids=(2,)))[0].text == ""
    assert found.finish == "stop"


def test_end_shows_what_waits() -> None:
    found = answer("END")
    found.take(Chunk("E", ids=(1,)))
    found.take(Chunk(finish="stop", ids=(2,), completion_tokens=3, done=True))
    assert plain(found.close()) == [(1, "E"), (2, ""), (NO_TOKEN, "")]


def test_more_tokens_than_asked_for_are_a_fault() -> None:
    found = answer(room=1)
    found.take(Chunk("a", ids=(1,)))
    with pytest.raises(TextOverrun):
        found.take(Chunk("b", ids=(2,)))


def test_unknown_ids_follow_from_their_text() -> None:
    log = LoggedAnswer.of([TokenDelta(1, "a"), TokenDelta(NO_TOKEN, ""), TokenDelta(3, "\N{EURO SIGN}")])
    assert log.ids == (1, UnknownIds("\N{EURO SIGN}", 2, 3))
    assert LoggedAnswer.of([TokenDelta(NO_TOKEN, "a")]).ids is None


def test_sglang_streams_are_read_in_both_forms() -> None:
    def event(text: str, ids: list[int], count: int) -> bytes:
        meta = {"completion_tokens": count, "prompt_tokens": 3, "finish_reason": None}
        return b"data: " + msgspec.json.encode({"text": text, "output_ids": ids, "meta_info": meta}) + b"\n\n"

    whole, new = GenerateReader(), GenerateReader()
    found = [whole.feed(event("a", [1], 1)), whole.feed(event("abc", [1, 2, 3], 3))]
    same = [new.feed(event("a", [1], 1)), new.feed(event("bc", [2, 3], 3))]
    assert found == same
    assert [(chunk.text, chunk.ids) for chunks in found for chunk in chunks] == [("a", (1,)), ("bc", (2, 3))]


def test_llamacpp_token_without_an_event_has_no_id() -> None:
    reader = CompletionReader()
    [chunk] = reader.feed(b'data: {"content":"x","tokens":[9],"tokens_predicted":3}\n\n')
    assert chunk.ids == (NO_TOKEN, NO_TOKEN, 9)


def test_answer_given_up_at_its_trigger_obeys_at_once() -> None:
    """llama.cpp ends an answer whose token goes beyond the trigger in a way that the grammar forbids."""
    settings = OpenAISettings.parse("http://host/v1,model=m,engine=llamacpp,tools=hermes")
    chooser, request = StrategyChooser(settings, ()), GenerateRequest("r", "m", "p")
    answer = AnswerSoFar(request, [])
    said = {"code": 500, "message": "Unexpected empty grammar stack after accepting piece"}
    assert chooser.judge(0, ContinuationStrategy.IDS, answer, in_stream_fault(said)).kind is FaultKind.MALFORMED
    assert answer.begins_now
    constraint = Constraint('root ::= "<call>" [a-z]+', "<call>")
    fields, _ = ENGINES["llamacpp"].constraint(constraint, "", begins_now=True)
    assert fields["grammar"].startswith('root ::= "<call>"')
    assert "grammar_lazy" not in fields


@pytest.mark.parametrize(
    "data",
    [
        b'{"completion_probabilities":[{"bytes":[300],"logprob":0}]}',
        b'{"tokens_predicted":1000000000000}',
        b'{"prompt_progress":{"a":%b}}' % (b"[" * 5000 + b"]" * 5000),
    ],
)
def test_odd_event_of_llamacpp_is_a_bad_chunk(data: bytes) -> None:
    with pytest.raises(BadChunk):
        CompletionReader().feed(b"data: %b\n\n" % data)
