"""A simulated model behind the doubles: the token that follows depends on all ids before, and on nothing else. Pure.

So an answer that goes on behind its ids is the same as without a break, and any lost, repeated or swapped token shows.
A token is one of the mock's words, or one byte, so that characters are split between tokens.
"""

import hashlib
import itertools
import json
import re
import struct
from collections.abc import Iterator, Sequence
from typing import Any

import attrs

from llmactors.backends.mock.oracle import _WORDS
from llmactors.grammar.machine import machine_for

WORDS = 1 << 22
"""The ids below are the mock's words."""
BYTES = WORDS
START, END = WORDS + 256, WORDS + 257
"""The control tokens around a turn of a conversation. `END` ends an answer too."""
_PLACES = {word: place for place, word in enumerate(_WORDS)}
_WORD = re.compile("(" + "|".join(_WORDS) + ")([0-9a-f]{4})")
_LONG = 60
"""After how many tokens a constrained answer closes its strings, lists and objects."""
_ENDS = '"]}'
"""What such an answer takes first, where the grammar allows it."""
_EMOJI = b"\xf0\x9f\x98"


def encode(text: str) -> list[int]:
    """The ids of a text, without control tokens."""
    ids: list[int] = []
    at = 0
    while at < len(text):
        if found := _WORD.match(text, at):
            ids.append(_PLACES[found[1]] << 16 | int(found[2], 16))
            at = found.end()
        else:
            ids += [BYTES + byte for byte in text[at].encode("utf-8", "surrogatepass")]
            at += 1
    return ids


def piece(token: int) -> bytes:
    """The bytes of a token; empty for a control token."""
    if token < WORDS:
        return f"{_WORDS[token >> 16]}{token & 0xFFFF:04x}".encode()
    return bytes((token - BYTES,)) if token < START else b""


def decode(ids: Sequence[int]) -> str:
    """The text of ids, with U+FFFD for what is no character."""
    return b"".join(map(piece, ids)).decode("utf-8", "replace")


def template(messages: Sequence[dict[str, Any]], tools: Any = None, *, continues: bool = False) -> list[int]:
    """The ids of a conversation, up to where the answer begins; with `continues` inside of the last message.

    White space at the end of a message is dropped, as most templates of Hugging Face do.
    """
    ids: list[int] = []
    if tools:
        ids += [START, *encode("system\n<tools>" + json.dumps(tools) + "</tools>"), END]
    for place, message in enumerate(messages):
        content = message.get("content") or ""
        if not isinstance(content, str):
            content = "".join(part.get("text", "") for part in content)
        ids += [START, *encode(f"{message['role']}\n{content.rstrip()}")]
        if not (continues and place == len(messages) - 1):
            ids.append(END)
    return ids if continues else [*ids, START, *encode("assistant\n")]


@attrs.frozen
class Rules:
    """How the next tokens are drawn."""

    max_tokens: int
    min_tokens: int = 0
    ignore_eos: bool = False
    grammar: str = ""
    seed: int | None = None
    """None: greedy."""


@attrs.frozen
class Made:
    """One token that was made."""

    id: int
    logprob: float
    finish: str | None = None


def made(prompt: Sequence[int], rules: Rules) -> Iterator[Made]:
    """The tokens that follow a prompt."""
    state = hashlib.blake2b(str(rules.seed).encode() + struct.pack(f"<{len(prompt)}I", *prompt), digest_size=8)
    begun = _answer_so_far(prompt)
    script = _script(prompt, begun) if not rules.grammar else None
    follow = None if not rules.grammar else _Constrained(rules.grammar)
    partial = _partial(begun)
    for count in itertools.count(1):
        number = int.from_bytes(state.digest(), "big")
        length = len(begun) + count
        if script is not None:
            token = next(script, END)
        elif follow is not None:
            token = follow.next(number, length)
        else:
            token = _free(number, partial, may_end=count > rules.min_tokens and not rules.ignore_eos)
        partial = b"" if token >= START or token < WORDS else _extend(partial, piece(token))
        state.update(struct.pack("<I", token))
        finish = "stop" if token == END else "length" if count >= rules.max_tokens else None
        yield Made(token, -(1 + token % 64) / 64, finish)
        if finish is not None:
            return


def _answer_so_far(prompt: Sequence[int]) -> list[int]:
    """The ids behind the head of the last turn."""
    head = encode("assistant\n")
    for at in range(len(prompt) - 1, -1, -1):
        if prompt[at] == START:
            turn = list(prompt[at + 1 :])
            return turn[len(head) :] if turn[: len(head)] == head else []
    return []


def _partial(ids: Sequence[int]) -> bytes:
    data = b""
    for token in ids:
        data = b"" if token < WORDS or token >= START else _extend(data, piece(token))
    return data


def _extend(partial: bytes, more: bytes) -> bytes:
    data = partial + more
    try:
        data.decode()
    except UnicodeDecodeError:
        return data
    return b""


def _free(number: int, partial: bytes, *, may_end: bool) -> int:
    if partial:
        return BYTES + (_EMOJI[len(partial)] if len(partial) < len(_EMOJI) else 0x80 + number % 0x30)
    if number % 11 == 0:
        return BYTES + _EMOJI[0]
    if number % 97 == 1 and may_end:
        return END
    return number >> 20 & WORDS - 1


def _script(prompt: Sequence[int], begun: Sequence[int]) -> Iterator[int] | None:
    """An answer with calls of tools, where the conversation offers tools and does not say `no call`."""
    text = b"".join(map(piece, prompt)).decode("utf-8", "replace")
    found = re.search(r"<tools>(.*?)</tools>", text, re.DOTALL)
    if found is None or "no call" in text:
        return None
    function = json.loads(found[1])[0]["function"]
    arguments = {name: f"Ōslo {name} \N{GRINNING FACE}" for name in function["parameters"]["properties"]}
    call = json.dumps({"name": function["name"], "arguments": arguments}, ensure_ascii=False)
    return iter(encode(f"Let me look. \n<tool_call>\n{call}\n</tool_call>")[len(begun) :])


class _Constrained:
    """An answer that follows a grammar from its root on."""

    def __init__(self, grammar: str) -> None:
        self._state = machine_for(grammar).start
        self._rest: list[int] = []

    def next(self, number: int, length: int) -> int:
        if self._rest:
            return self._rest.pop(0)
        hurries = length > _LONG
        if not self._state.may_continue or (self._state.is_complete and (hurries or number % 4 == 0)):
            return END
        chars = self._state.allowed
        char: str = chars.at((number >> 16) % min(chars.size, 0xD000))
        if hurries:
            char = next((end for end in _ENDS if end in chars), chars.at(0))
        self._state = self._state.advance(char)
        self._rest = [BYTES + byte for byte in char.encode()]
        return self._rest.pop(0)


class Detokenizer:
    """The text of a stream, in which a character that is not complete waits for its last byte."""

    def __init__(self) -> None:
        self._held = b""

    def feed(self, token: int) -> str:
        self._held += piece(token)
        try:
            text = self._held.decode()
        except UnicodeDecodeError:
            return ""
        self._held = b""
        return text
