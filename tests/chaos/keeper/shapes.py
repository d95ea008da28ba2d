"""What the clients ask, and every byte of the answer that they must get. Pure.

An answer of each shape is taken before the first kill. In its text, each token is replaced by its number, and each id
and each time by one sign, as these differ between requests. The oracle of the mock fills in the tokens of another
prompt. So a byte that is lost, repeated or changed anywhere in an answer is noticed.
"""

import json
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import attrs

from llmactors.backends.mock.oracle import sequence_hash, token_of

_ID = re.compile(r"\b(req_|chatcmpl-|cmpl-|resp_|msg_)([0-9a-f]{32})")
_CREATED = re.compile(r'"(created|created_at)":\d+')
_TOKEN = re.compile(r"[a-z]+[0-9a-f]{4}\b")
_NUMBERED = re.compile(r"\0(\d+)\0")
_PASSING = ("event: queued\n", "event: ping\n", ":")
"""How events begin that are sent while nothing happens, and that belong to no answer."""


@attrs.frozen
class Shape:
    """One kind of request. In `fields`, the text "PROMPT" stands for the prompt."""

    name: str
    path: str
    fields: dict[str, Any]
    prefix: str = "user: "
    """What the gateway writes before the prompt."""
    fixed: bool = False
    """Whether all requests have the same prompt, because more than the tokens follows from the prompt."""

    @property
    def is_stream(self) -> bool:
        return bool(self.fields.get("stream"))

    def prompt(self, text: str) -> str:
        """The prompt of a request. All prompts have three words."""
        return "the fixed prompt" if self.fixed else text

    def body(self, prompt: str) -> bytes:
        return json.dumps(self.fields).replace('"PROMPT"', json.dumps(prompt)).encode()

    def request(self, prompt: str) -> bytes:
        body = self.body(prompt)
        head = f"POST {self.path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
        return head.encode() + b"content-length: %d\r\n\r\n" % len(body) + body


def all_shapes(tokens: int) -> dict[str, Shape]:
    """The shapes by their names, with answers of so many tokens."""
    chat = {"model": "mock", "messages": [{"role": "user", "content": "PROMPT"}], "max_tokens": tokens}
    native = {"prompt": "PROMPT", "max_tokens": tokens}
    response = {"model": "mock", "input": "PROMPT", "max_output_tokens": tokens}
    usage = {"stream": True, "stream_options": {"include_usage": True}}
    logprobs = {"logprobs": True, "top_logprobs": 20}
    shapes = [
        Shape("native stream", "/v1/generate", {**native, "stream": True}, ""),
        Shape("native JSON", "/v1/generate", native, ""),
        Shape("chat stream", "/v1/chat/completions", {**chat, **usage}),
        Shape("chat JSON", "/v1/chat/completions", chat),
        Shape("logprobs stream", "/v1/chat/completions", {**chat, **usage, **logprobs}, fixed=True),
        Shape("large JSON", "/v1/chat/completions", {**chat, **logprobs, "n": 4}, fixed=True),
        Shape("completions stream", "/v1/completions", {"model": "mock", **native, **usage}, ""),
        Shape("responses stream", "/v1/responses", {**response, "stream": True}),
        Shape("responses JSON", "/v1/responses", response),
        Shape("messages stream", "/v1/messages", {**chat, "stream": True}),
        Shape("messages JSON", "/v1/messages", chat),
    ]
    return {shape.name: shape for shape in shapes}


def normal(body: bytes | str) -> str:
    """An answer without what differs between two answers to the same request."""
    text = body.decode() if isinstance(body, bytes) else body
    if text.startswith("{"):
        events = [text]
    else:
        events = [event for event in text.split("\n\n") if not event.startswith(_PASSING)]
    ids: dict[str, int] = {}
    text = _ID.sub(lambda found: f"{found[1]}<{ids.setdefault(found[2], len(ids))}>", "\n\n".join(events))
    return _CREATED.sub(r'"\1":0', text)


def canonical(values: Sequence[Any]) -> str:
    """What a client library made of an answer, in one form."""
    return normal("".join(f"{json.dumps(_whole(each), sort_keys=True, separators=(',', ':'))}\n\n" for each in values))


def _whole(value: Any) -> Any:
    """A value in which 2.0 is 2, as JSON does not tell them apart."""
    if isinstance(value, dict):
        return {name: _whole(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_whole(each) for each in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def values_of(body: str) -> list[Any]:
    """The values in an answer: one, or one for each event."""
    if body.startswith("{"):
        return [json.loads(body)]
    lines = (line.removeprefix("data: ") for line in body.split("\n") if line.startswith("data: "))
    return [json.loads(line) for line in lines if line != "[DONE]"]


def templated(shape: Shape, prompt: str, tokens: int, body: bytes) -> str:
    """The template of a shape, from an undisturbed answer. Raises `ValueError` for an answer without all tokens."""
    text = normal(body)
    if shape.fixed:
        return text
    base = sequence_hash(shape.prefix + prompt, None)
    for seq in range(1, tokens + 1):
        token = token_of(base, seq).text
        if token not in text:
            raise ValueError(f"token {seq}, {token!r}, is missing in the answer: {text[-2000:]}")
        text = text.replace(token, f"\0{seq}\0")
    return text


@attrs.frozen
class Oracle:
    """Knows every answer."""

    shapes: dict[str, Shape]
    templates: dict[str, str]
    """By the name of the shape."""

    def body(self, shape: Shape, prompt: str) -> str:
        """The normal form of the answer."""
        base = sequence_hash(shape.prefix + prompt, None)
        return _NUMBERED.sub(lambda found: token_of(base, int(found[1])).text, self.templates[shape.name])

    def fault_of_body(self, shape: Shape, prompt: str, found: bytes | str) -> str:
        """What is wrong with the bytes of an answer; empty for a right answer."""
        return difference(self.body(shape, prompt), normal(found))

    def fault_of_values(self, shape: Shape, prompt: str, found: Sequence[Any]) -> str:
        """What is wrong with what a client library made of an answer; empty for a right answer."""
        return difference(canonical(values_of(self.body(shape, prompt))), canonical(found))


def difference(expected: str, found: str) -> str:
    """`lost`, `repeated` or `wrong`, with the place; empty where there is no difference."""
    if found == expected:
        return ""
    at = next((at for at, (one, other) in enumerate(zip(expected, found, strict=False)) if one != other), None)
    place = min(len(expected), len(found)) if at is None else at
    wanted, had = (Counter(_TOKEN.findall(text)) for text in (expected, found))
    kind = "repeated" if had - wanted else "lost" if wanted - had else "wrong"
    begin = max(0, place - 80)
    return f"{kind}: at {place}, {found[begin : place + 160]!r} in place of {expected[begin : place + 160]!r}"
