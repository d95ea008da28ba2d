"""A text ends before its first stop string, whatever its pieces are."""

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
def test_pieces_are_cut_as_the_whole_text_would_be(pieces: list[str], stop: str) -> None:
    assert shown(pieces, [stop]) == "".join(pieces).partition(stop)[0]


@given(PIECES, st.lists(st.text("ab", max_size=4), max_size=3))
def test_shown_text_ends_before_the_first_stop_string(pieces: list[str], stops: list[str]) -> None:
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
def test_only_a_possible_stop_string_is_held_back(text: str, now: str, held: str) -> None:
    cut = StopStrings(["END"])
    assert cut.feed(text) == now
    assert cut.flush() == held


def test_stop_string_is_named() -> None:
    cut = StopStrings(["never", "END", "ND"])
    cut.feed("say EN")
    assert (cut.stop, cut.stopped) == ("", False)
    cut.feed("D of all")
    assert (cut.stop, cut.stopped) == ("END", True)
