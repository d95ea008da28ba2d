"""The oracle is a function of prompt, seed and seq, and its texts show lost or repeated tokens."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmactors.backends.mock.oracle import mock_prompt_tokens, mock_text, mock_tokens, sequence_hash, token_of
from llmactors.messages import GenerateRequest


def ask(prompt: str = "a prompt", **fields: object) -> GenerateRequest:
    return GenerateRequest(id="r", model="mock", prompt=prompt, **fields)  # type: ignore[arg-type]


@given(st.text(), st.integers() | st.none(), st.integers(1, 200))
def test_whole_answer_is_its_tokens_one_by_one(prompt: str, seed: int | None, max_tokens: int) -> None:
    deltas, finish = mock_tokens(ask(prompt, seed=seed, max_tokens=max_tokens))
    assert deltas == tuple(token_of(sequence_hash(prompt, seed), seq) for seq in range(1, max_tokens + 1))
    assert finish == "length"


def test_answer_is_the_same_in_every_version() -> None:
    assert mock_text(ask("hi", max_tokens=3)) == " oakea43 fieldd36b galece3f"


def test_missing_seed_is_seed_0() -> None:
    assert mock_text(ask(seed=None)) == mock_text(ask(seed=0)) != mock_text(ask(seed=1))


def test_answer_depends_on_prompt_seed_length_and_stop() -> None:
    other = GenerateRequest(id="x", model="y", prompt="a prompt", temperature=0.0, tenant="t", priority=2, raw=True)
    assert mock_tokens(other) == mock_tokens(ask())


def test_tokens_of_neighbouring_sequences_differ() -> None:
    """A lost, repeated or swapped token changes the text; one pair in four million may be equal by chance."""
    bases = [sequence_hash(f"prompt {number}", None) for number in range(10_000)]
    texts = [[token_of(base, seq).text for seq in range(1, 5)] for base in bases]
    assert sum(len(set(row)) < len(row) for row in texts) <= 1
    assert len({row[0] for row in texts}) > 9_950
    words = {text.rstrip("0123456789abcdef")[:4] for row in texts for text in row}
    assert len(words) > 40


def test_token_ids_and_texts_are_one_to_one() -> None:
    deltas = {token_of(sequence_hash("p", None), seq) for seq in range(1, 20_000)}
    assert len({delta.token for delta in deltas}) == len({delta.text for delta in deltas}) == len(deltas)


@given(st.integers(0, 10_000), st.integers(0, 200), st.integers(1, 12), st.integers(1, 60))
def test_stop_string_cuts_the_text_before_it(seed: int, at: int, size: int, max_tokens: int) -> None:
    whole = mock_text(ask(seed=seed, max_tokens=max_tokens))
    stop = whole[at : at + size]
    deltas, finish = mock_tokens(ask(seed=seed, max_tokens=max_tokens, stop=(stop,)))
    text = "".join(delta.text for delta in deltas)
    assert text == (whole.partition(stop)[0] if stop else whole)
    assert finish == ("stop" if stop else "length")


@given(st.integers(0, 1000), st.integers(1, 12), st.integers(1, 9))
def test_half_a_stop_string_at_the_end_costs_no_text(seed: int, begun: int, max_tokens: int) -> None:
    whole = mock_text(ask(seed=seed, max_tokens=max_tokens))
    deltas, finish = mock_tokens(ask(seed=seed, max_tokens=max_tokens, stop=(whole[-begun:] + "!",)))
    assert "".join(delta.text for delta in deltas) == whole
    assert (len(deltas), finish) == (max_tokens, "length")


@given(st.integers(0, 1000), st.integers(1, 20))
def test_answer_ends_at_the_drawn_token(seed: int, eos_one_in: int) -> None:
    deltas, finish = mock_tokens(ask(seed=seed, max_tokens=100), eos_one_in=eos_one_in)
    drawn = [delta.token % eos_one_in == 0 for delta in deltas]
    assert not any(drawn[:-1])
    assert finish == ("stop" if drawn[-1] else "length")
    assert finish == "stop" or len(deltas) == 100


def test_answer_that_ignores_eos_has_all_its_tokens() -> None:
    request = ask(max_tokens=50, ignore_eos=True)
    assert mock_tokens(request, eos_one_in=2) == mock_tokens(request)


@pytest.mark.parametrize(("prompt", "count"), [("", 1), ("  \n", 1), ("one", 1), (" two\twords ", 2)])
def test_prompt_tokens_are_words(prompt: str, count: int) -> None:
    assert mock_prompt_tokens(prompt) == count
