"""What a client has already is taken out of a stream, and nothing else is."""

import pytest

from llmactors.backends.openai.continuation.overlap import Diverged, ReplayFilter, TokenIdFilter, WhitespaceFilter
from llmactors.backends.openai.continuation.strategy import LoggedAnswer
from llmactors.backends.openai.responses.chunks import NO_TOKEN, Chunk
from llmactors.messages import TokenDelta, TokenExtra, TokenLogprob, ToolCallDelta


def test_space_of_the_log_keeps_its_probability_to_itself() -> None:
    space, word = TokenLogprob(b" ", -1.0), TokenLogprob(b"a", -2.0)
    found = WhitespaceFilter(" ").filter([Chunk(" ", logprobs=(space,)), Chunk("a", logprobs=(word,))])
    assert found == [Chunk(""), Chunk("a", logprobs=(word,))]


def test_same_tokens_of_a_cut_character_keep_their_ids() -> None:
    found = TokenIdFilter((1, 2)).filter([Chunk(ids=(1,)), Chunk(ids=(2,)), Chunk("é", ids=(3,)), Chunk("x", ids=(4,))])
    assert found == [Chunk(), Chunk(), Chunk("é", ids=(3,)), Chunk("x", ids=(4,))]


def test_other_tokens_than_those_of_the_log_hide_their_ids() -> None:
    """The log's ids do not stand for the text then, and no token is counted twice."""
    found = TokenIdFilter((1, 2)).filter(
        [Chunk("a", ids=(8,)), Chunk("b", ids=(9,)), Chunk("c", ids=(4,)), Chunk("d", ids=(5,))]
    )
    assert found == [Chunk(), Chunk(), Chunk("abc", ids=(NO_TOKEN,)), Chunk("d", ids=(5,))]
    [_, last] = TokenIdFilter((1, 2)).filter([Chunk("a", ids=(8,)), Chunk(finish="stop", completion_tokens=1)])
    assert (last.text, last.ids) == ("a", (NO_TOKEN,))


def test_reasoning_and_calls_of_one_chunk_are_made_again() -> None:
    call = ToolCallDelta(0, "call_1", "look", '{"a":')
    logged = LoggedAnswer.of([TokenDelta(NO_TOKEN, "", TokenExtra(reasoning="so", tool_calls=(call,)))])
    again = ToolCallDelta(0, "call_9", "look", '{"a":1}')
    [found] = ReplayFilter(logged).filter([Chunk(reasoning="so", tool_calls=(again,))])
    assert found == Chunk(tool_calls=(ToolCallDelta(0, "", "", "1}"),))


def test_other_answer_is_refused() -> None:
    overlap = ReplayFilter(LoggedAnswer.of([TokenDelta(NO_TOKEN, "ab")]))
    with pytest.raises(Diverged):
        overlap.filter([Chunk("a"), Chunk("c")])
