"""The text ends before the first stop string, however it arrives in pieces."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmactors.backends.stop_strings import StopStrings

TEXT = st.text("ab", max_size=12)
PIECES = st.lists(TEXT, max_size=6)


def shown(pieces: list[str], stops: list[str]) -> str:
    cut, text = StopStrings(stops), ""
    for piece in pieces:
        text += cut.feed(piece)
        if cut.stopped:
            return text
    return text + cut.flush()


@given(PIECES, st.text("ab", min_size=1, max_size=4))
def test_one_stop_string_cuts_as_if_the_text_had_come_whole(pieces: list[str], stop: str) -> None:
    assert shown(pieces, [stop]) == "".join(pieces).partition(stop)[0]


@given(PIECES, st.lists(st.text("ab", max_size=4), max_size=3))
def test_what_is_shown_has_no_stop_string_and_is_followed_by_one_or_by_the_end(
    pieces: list[str], stops: list[str]
) -> None:
    whole, text = "".join(pieces), shown(pieces, stops)
    real = [stop for stop in stops if stop]
    assert not any(stop in text for stop in real)
    assert text == whole or any(whole.startswith(text + stop) for stop in real)


@given(PIECES)
def test_without_stop_strings_nothing_is_held_back(pieces: list[str]) -> None:
    cut = StopStrings(["", ""])
    assert [cut.feed(piece) for piece in pieces] == pieces
    assert cut.flush() == ""


@pytest.mark.parametrize(
    ("text", "now", "held"), [("say E", "say ", "E"), ("say EN", "say ", "EN"), ("ENT", "ENT", "")]
)
def test_only_what_may_still_become_a_stop_string_is_held_back(text: str, now: str, held: str) -> None:
    cut = StopStrings(["END"])
    assert cut.feed(text) == now
    assert cut.flush() == held
