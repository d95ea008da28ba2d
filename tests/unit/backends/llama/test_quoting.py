"""Names of control tokens are taken out of messages, and put back as text."""

import re
import time

from hypothesis import given
from hypothesis import strategies as st

from llmactors.backends.llama.gguf import Gguf
from llmactors.backends.llama.quoting import Quoting
from llmactors.backends.llama.vocabulary import controls_of

CONTROLS = ("<|end|>", "<|end|>more", "<s>", "[x]")


@given(
    contents=st.lists(
        st.lists(st.sampled_from([*CONTROLS, "<|end", "|>", "a", "\ue000q0\ue001", "\ue000q", "[x", "]"])), max_size=3
    )
)
def test_quoted_text_comes_back_without_control_tokens(contents: list[list[str]]) -> None:
    texts = ["".join(pieces) for pieces in contents]
    sheltered = Quoting(CONTROLS).shelter(texts)
    if sheltered is None:
        assert not any(control in text for text in texts for control in CONTROLS)
        return
    parts = sheltered.cut("<s>" + "<|end|>".join(sheltered.contents))
    assert "".join(text for text, _ in parts) == "<s>" + "<|end|>".join(texts)
    meant = " ".join(text for text, is_meant in parts if is_meant)
    found = re.findall(r"<\|end\|>|<s>|\[x\]", meant)
    assert found == ["<s>", *["<|end|>"] * (len(texts) - 1)]


def test_longest_control_token_wins() -> None:
    sheltered = Quoting(CONTROLS).shelter(["a<|end|>more"])
    assert sheltered is not None
    assert sheltered.quoted == ("<|end|>more",)


def test_messages_without_control_tokens_are_left_alone() -> None:
    assert Quoting(CONTROLS).shelter(["a < b | c > d", ""]) is None
    assert Quoting(()).shelter(["<s>"]) is None


def test_near_matches_are_searched_in_one_pass() -> None:
    """A search for one token after another would take a minute of processor time."""
    quoting = Quoting([f"<|reserved_{number}|>" for number in range(5000)])
    begun = time.process_time()
    assert quoting.shelter(["<|reserved_" * 25_000]) is None
    assert time.process_time() - begun < 10


def test_control_tokens_are_read_from_a_file() -> None:
    meta = {
        "tokenizer.ggml.tokens": [b"<unk>", b"<s>", b"a", b"<|looks|>", b"<end>", b"<tag>", b""],
        "tokenizer.ggml.token_type": [2, 3, 1, 1, 1, 1, 3],
        "tokenizer.ggml.eos_token_id": 4,
    }
    assert controls_of(Gguf(meta)) == {"<unk>", "<s>", "<|looks|>", "<end>"}
    assert controls_of(Gguf({})) == set()
