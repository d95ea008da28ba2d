import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmactors.backends.llama.detokenize import Detokenizer
from llmactors.backends.llama.gguf import Gguf
from llmactors.backends.llama.vocabulary import Vocabulary, vocabulary_of

SMILE = "😀".encode()
PIECES = [
    b"",
    b"a",
    b"b",
    b"ab",
    b" ",
    b"\n",
    SMILE[:2],
    SMILE[2:],
    SMILE[:3],
    SMILE[3:],
    b"\xff",
    "é".encode(),
    b" \xf0",
]
VOCABULARY = Vocabulary(PIECES)
tokens = st.lists(st.integers(0, len(PIECES) - 1), min_size=1, max_size=30)
stops = st.lists(st.text("ab \né😀", min_size=1, max_size=4), max_size=3).map(tuple)


def texts(ids: list[int], stop: tuple[str, ...] = (), *, replay: int = 0) -> list[str]:
    """The text of each token; the first `replay` tokens are fed by a takeover."""
    text = Detokenizer(VOCABULARY, stop)
    return [text.feed(token, last=place == len(ids)) for place, token in enumerate(ids, start=1)][replay:]


@given(tokens)
def test_texts_add_up_to_the_bytes(ids: list[int]) -> None:
    assert "".join(texts(ids)) == b"".join(PIECES[token] for token in ids).decode("utf-8", "replace")


@given(tokens, stops, st.data())
def test_takeover_at_any_token_adds_the_same_texts(ids: list[int], stop: tuple[str, ...], data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(ids)))
    assert texts(ids, stop)[:cut] + texts(ids, stop, replay=cut) == texts(ids, stop)


@given(tokens, stops)
def test_text_ends_before_the_first_complete_stop_string(ids: list[int], stop: tuple[str, ...]) -> None:
    whole, shown = "".join(texts(ids)), "".join(texts(ids, stop))
    assert not any(one in shown for one in stop)
    assert whole.startswith(shown)
    if not any(one in whole for one in stop):
        assert shown == whole


def test_character_belongs_to_the_token_completing_it() -> None:
    assert texts([6, 7, 1]) == ["", "😀", "a"]


def test_incomplete_last_character_is_replaced() -> None:
    assert texts([1, 8]) == ["a", "\N{REPLACEMENT CHARACTER}"]


@pytest.mark.parametrize(
    ("pieces", "expected"), [((3, 4), ["", "ab "]), ((1, 2, 5), ["", "", ""])], ids=["not met", "met"]
)
def test_stop_string_over_several_tokens_is_held_back(pieces: tuple[int, ...], expected: list[str]) -> None:
    assert texts(list(pieces), ("ab\n",)) == expected


@given(st.lists(st.integers(1, len(PIECES) - 1), min_size=1, max_size=3))
def test_spell_finds_the_only_way_or_none(ids: list[int]) -> None:
    data = b"".join(PIECES[token] for token in ids)
    ways = [
        way
        for way in itertools.product(range(1, len(PIECES)), repeat=len(ids))
        if b"".join(PIECES[token] for token in way) == data
    ]
    assert VOCABULARY.spell(data, len(ids)) == (ways[0] if len(ways) == 1 else None)


def test_byte_level_vocabularies_are_read() -> None:
    meta = {
        "tokenizer.ggml.model": b"gpt2",
        "tokenizer.ggml.tokens": ["ĠðŁĺ".encode(), "Ģ".encode(), b"<|im_end|>", "ĊĠ".encode(), b"<tool>"],
        "tokenizer.ggml.token_type": (1, 1, 3, 1, 4),
    }
    assert list(vocabulary_of(Gguf(meta)).pieces) == [b" " + SMILE[:3], SMILE[3:], b"", b"\n ", b"<tool>"]


def test_sentence_piece_vocabularies_are_read() -> None:
    meta = {
        "tokenizer.ggml.model": b"llama",
        "tokenizer.ggml.tokens": ["▁Hi".encode(), b"<0xF0>", b"</s>", b"<end>"],
        "tokenizer.ggml.token_type": (1, 6, 3, 1),
        "tokenizer.ggml.eot_token_id": 3,
    }
    assert list(vocabulary_of(Gguf(meta)).pieces) == [b" Hi", b"\xf0", b"", b""]
