"""The bytes that each token id of a model stands for. Pure.

The text that llama.cpp gives for a token is not enough, since a token may be a part of a character.
"""

from collections.abc import Iterable, Sequence

import attrs

from llmactors.backends.llama.gguf import Gguf
from llmactors.errors import ModelError

_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _BYTE = 1, 2, 3, 4, 6
_ENDS = ("eos", "eot", "eom")
_LONGEST_SPELLING_BYTES = 64
_SHOWN = frozenset({b"[TOOL_CALLS]", b"[ARGS]", b"[CALL_ID]", b"<|python_tag|>", b"<tool_call>", b"</tool_call>"})
"""The tags of calls of tools. They belong to the text of an answer, also where they are control tokens of the model."""


def _gpt2_bytes() -> dict[str, int]:
    """The letters that stand for bytes in byte-level BPE: printable Latin-1 for itself, the others from U+0100 on."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(0x100) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {chr(0x100 + at): byte for at, byte in enumerate(others)}


@attrs.frozen(repr=False)
class Vocabulary:
    """The bytes of each token; empty for a token that is no text, such as the end of the answer."""

    pieces: Sequence[bytes]
    _ids: dict[bytes, int] = attrs.field(
        init=False,
        eq=False,
        default=attrs.Factory(lambda self: {piece: at for at, piece in enumerate(self.pieces)}, takes_self=True),
    )

    def __repr__(self) -> str:
        return f"<Vocabulary of {len(self.pieces)} tokens>"

    def piece(self, token: int) -> bytes:
        """The bytes of `token`; also empty for an id that the model does not have."""
        return self.pieces[token] if 0 <= token < len(self.pieces) else b""

    def spell(self, data: bytes, count: int) -> tuple[int, ...] | None:
        """The only way to write `data` with `count` tokens; None where there is no way, or more than one."""
        if len(data) > _LONGEST_SPELLING_BYTES:
            return None
        found: list[tuple[int, ...]] = []
        for spelling in self._spellings(data, count):
            found.append(spelling)
            if len(found) > 1:
                return None
        return found[0] if found else None

    def _spellings(self, data: bytes, count: int) -> Iterable[tuple[int, ...]]:
        if count == 1:
            token = self._ids.get(data)
            if token is not None and data:
                yield (token,)
            return
        for cut in range(1, len(data) - count + 2):
            token = self._ids.get(data[:cut])
            if token is not None:
                for rest in self._spellings(data[cut:], count - 1):
                    yield (token, *rest)


def vocabulary_of(gguf: Gguf) -> Vocabulary:
    """The vocabulary of a model file.

    Raises:
        ModelError: The file holds no vocabulary.
    """
    meta = gguf.metadata
    texts = meta.get("tokenizer.ggml.tokens")
    if not texts:
        raise ModelError("the model file has no vocabulary: it is not a language model that can be served")
    kinds = meta.get("tokenizer.ggml.token_type") or [_NORMAL] * len(texts)
    byte_level = meta.get("tokenizer.ggml.model") == b"gpt2"
    decode = _byte_level if byte_level else _sentence_piece
    pieces = [text if text in _SHOWN else decode(text, kind) for text, kind in zip(texts, kinds, strict=True)]
    for name in _ENDS:
        # Some files declare these tokens as ordinary text, but llama.cpp never shows them.
        token = meta.get(f"tokenizer.ggml.{name}_token_id")
        if isinstance(token, int) and token < len(pieces):
            pieces[token] = b""
    return Vocabulary(pieces)


def controls_of(gguf: Gguf) -> set[str]:
    """The names of the control tokens, which no user's text may become."""
    meta = gguf.metadata
    texts = meta.get("tokenizer.ggml.tokens") or []
    kinds = meta.get("tokenizer.ggml.token_type") or [_NORMAL] * len(texts)
    ends = {meta.get(f"tokenizer.ggml.{name}_token_id") for name in _ENDS}
    found = {
        text.decode("utf-8", "replace")
        for at, (text, kind) in enumerate(zip(texts, kinds, strict=True))
        # llama.cpp takes tokens of this form for control tokens, whatever the file says.
        if kind in {_UNKNOWN, _CONTROL} or at in ends or (text.startswith(b"<|") and text.endswith(b"|>"))
    }
    return found - {""}


_LETTERS = _gpt2_bytes()


def _byte_level(text: bytes, kind: int) -> bytes:
    if kind == _USER_DEFINED:
        return text
    if kind != _NORMAL:
        return b""
    letters = text.decode("utf-8", "replace")
    return b"".join(bytes((_LETTERS[one],)) if one in _LETTERS else one.encode() for one in letters)


def _sentence_piece(text: bytes, kind: int) -> bytes:
    if kind == _BYTE:  # written <0xE4>
        return bytes((int(text[1:-1], 16),))
    if kind == _USER_DEFINED:
        return text
    return text.replace("\u2581".encode(), b" ") if kind == _NORMAL else b""
