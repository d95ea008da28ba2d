from collections.abc import Sequence

import attrs
import pytest

from llmactors.backends.llama.answer import CompletionEvent, LlamaAnswer
from llmactors.backends.llama.vocabulary import Vocabulary
from llmactors.messages import GenerateRequest, TokenDelta, TokenExtra

SMILE = "😀".encode()
VOCABULARY = Vocabulary(
    [b"", b"a", b"b", SMILE[:2], SMILE[2:], SMILE[:3], SMILE[3:], SMILE[:1], SMILE[1:3], SMILE[1:2], SMILE[2:3]]
)
END, A, B, HEAD, TAIL = 0, 1, 2, 3, 4
REQUEST = GenerateRequest("r", "m", "hi", max_tokens=4)


def answer(*logged: TokenDelta, stop: tuple[str, ...] = (), again: bool = False) -> LlamaAnswer:
    made = LlamaAnswer(VOCABULARY, attrs.evolve(REQUEST, stop=stop), logged)
    made.begin(again=again)
    return made


def event(text: str, tokens: Sequence[int], predicted: int, ended: str | None = None) -> CompletionEvent:
    return CompletionEvent(text, tokens, predicted, ended)


def test_last_allowed_token_finishes_the_answer() -> None:
    made = answer(TokenDelta(A, "a"), TokenDelta(A, "a"), TokenDelta(A, "a"))
    assert made.take(event("b", [B], 1)) == [TokenDelta(B, "b")]
    assert made.finish == "length"


def test_end_token_carries_the_text_held_back() -> None:
    made = answer(stop=("ab",))
    assert made.take(event("a", [A], 1)) == [TokenDelta(A, "")]
    assert made.take(event("", [END], 2)) == []
    assert made.take(event("", [], 2, "eos")) == [TokenDelta(END, "a")]
    assert made.finish == "stop"


def test_token_without_text_is_logged() -> None:
    made = answer()
    assert made.take(event("", [END], 1)) == []
    assert made.take(event("a", [A], 2)) == [TokenDelta(END, ""), TokenDelta(A, "a")]
    assert made.finish is None


def test_missing_id_is_found_from_the_bytes() -> None:
    made = answer()
    assert made.take(event("😀", [TAIL], 2)) == [TokenDelta(HEAD, ""), TokenDelta(TAIL, "😀")]


def test_ambiguous_ids_must_be_asked_for() -> None:
    made = answer()
    assert made.take(event("😀", [6], 3)) == []  # F0 9F|98 and F0|9F 98 both lead to this last byte
    assert made.hidden == 2
    assert made.take_whole([7, 8, 6], eos=False) == [TokenDelta(7, ""), TokenDelta(8, ""), TokenDelta(6, "😀")]
    assert not made.over


def test_answer_cut_inside_a_character_asks_for_its_end() -> None:
    made = answer(TokenDelta(A, "a"), TokenDelta(A, "a"), TokenDelta(A, "a"))
    assert made.take(event("", [], 1, "limit")) == []
    assert made.hidden == 1
    assert made.take_whole([HEAD], eos=False) == [TokenDelta(HEAD, "\N{REPLACEMENT CHARACTER}")]
    assert made.finish == "length"


def test_log_with_the_stop_string_is_finished() -> None:
    made = answer(TokenDelta(A, ""), TokenDelta(B, ""), stop=("ab",))
    assert made.finish == "stop"


def test_answer_made_again_shows_only_new_tokens() -> None:
    made = answer(TokenDelta(A, "a"), TokenDelta(HEAD, ""), again=True)
    assert made.take(event("a", [A], 1)) == []
    assert made.take(event("😀", [TAIL], 3)) == [TokenDelta(TAIL, "😀")]
    assert not made.over


def test_diverged_answer_shows_nothing() -> None:
    made = answer(TokenDelta(A, "a"), again=True)
    assert made.take(event("b", [B], 1)) == []
    assert made.diverged
    made.begin(again=False)
    assert made.take(event("b", [B], 1)) == [TokenDelta(B, "b")]


def test_answer_made_again_too_short_is_diverged() -> None:
    made = answer(TokenDelta(A, "a"), TokenDelta(A, "a"), again=True)
    made.take(event("a", [A], 1))
    made.take(event("", [END], 2))
    made.take(event("", [], 2, "eos"))
    assert made.diverged
    assert not made.finished


def test_hidden_tokens_of_a_constraint_end_with_a_character() -> None:
    made = answer(TokenDelta(A, "a"))
    made.hidden = 2
    assert made.shortest_hidden([7, 8, 6, A]) == [7, 8, 6]
    assert made.shortest_hidden([A, B, A]) == [A, B]
    assert made.shortest_hidden([A, 7, 8]) == [A, 7, 8]
    assert made.data == b"a"


def test_token_beyond_a_trigger_ends_the_stream_only() -> None:
    made = answer()
    made.force()
    assert (made.over, made.finished, made.forced) == (True, False, True)
    made.begin(again=False)
    assert (made.over, made.forced) == (False, True)


def test_text_held_back_for_a_stop_string_is_known() -> None:
    made = answer(stop=("ab",))
    made.take(event("a", [A], 1))
    assert made.holds_text
    made.take(event("a", [A], 2))
    made.take(event("", [END], 3))
    made.take(event("", [], 3, "eos"))
    assert made.finish == "stop"


def least(*logged: TokenDelta, min_tokens: int = 3, max_tokens: int = 8, again: bool = False) -> tuple[int, int]:
    request = GenerateRequest("r", "m", "p", max_tokens=max_tokens, min_tokens=min_tokens)
    return LlamaAnswer(VOCABULARY, request, logged).begin(again=again)


@pytest.mark.parametrize(
    ("logged", "again", "stream"),
    [
        (0, False, (0, 3)),
        (2, False, (2, 1)),
        (2, True, (0, 3)),
        (3, False, (3, 5)),
        (3, True, (3, 5)),
        (5, True, (3, 5)),
        (5, False, (5, 3)),
    ],
)
def test_least_length_takes_a_stream_of_its_own(logged: int, again: bool, stream: tuple[int, int]) -> None:
    assert least(*(TokenDelta(A, "a"),) * logged, again=again) == stream


def test_answer_goes_on_behind_its_least_length() -> None:
    made = LlamaAnswer(VOCABULARY, GenerateRequest("r", "m", "p", max_tokens=8, min_tokens=2, stop=("ab",)), ())
    assert made.begin(again=False) == (0, 2)
    assert made.take(event("a", [A], 1)) == [TokenDelta(A, "a")]
    assert made.take(event("b", [B], 2)) == [TokenDelta(B, "b")]
    made.take(event("", [], 2, "limit"))
    assert (made.over, made.finished) == (True, False)
    assert made.begin(again=False) == (2, 6)
    assert not made.over
    assert made.take(event("", [END], 1)) == []
    assert made.take(event("", [], 1, "eos")) == [TokenDelta(END, "")]
    assert made.finish == "stop"


def test_log_names_the_stop_string() -> None:
    made = answer(stop=("never", "ab"))
    deltas = [*made.take(event("a", [A], 1)), *made.take(event("b", [B], 2))]
    assert [delta.extra for delta in deltas] == [None, TokenExtra(stop="ab")]
