"""The fields that an upstream does not take, as its settings say and as its refusals have shown. Pure.

Only a field that the answer does without is ever left out by itself: `stream_options`, whose counts of tokens are
estimated then; `stop`, since the backend looks for stop strings by itself; and `encoding_format`, since vectors are
read in both formats. The limit on tokens has two names, and the other one is tried. A refusal of any other field is an
answer for the client.
"""

import re
from collections.abc import Collection, Mapping
from typing import Any

import attrs
import msgspec

NEEDLESS = frozenset({"stream_options", "stop", "encoding_format"})
"""The fields that may be left out without a loss for the client."""
OMITTABLE: Mapping[str, str] = {
    "stream_options": "",
    "stop": "",
    "encoding_format": "",
    "temperature": "temperature",
    "top_p": "top_p",
    "seed": "seed",
    "frequency_penalty": "frequency_penalty",
    "presence_penalty": "presence_penalty",
    "logit_bias": "logit_bias",
    "logprobs": "top_logprobs",
    "reasoning_effort": "reasoning_effort",
    "response_format": "response_format",
    "tools": "tools",
}
"""The fields that the option `omit` takes, and which field of a request asks for each; empty: no client's request
does."""
_LIMITS = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}
_UNKNOWN_FIELD = re.compile(
    r"unsupported[ _]param|unknown|unrecognized|extra[ _](inputs|forbidden)|not permitted", re.IGNORECASE
)
_QUOTED = re.compile(r"['\"`]([a-z][a-z_]*)\b")
_LONG_NAME = re.compile(r"\b[a-z]+(?:_[a-z]+)+\b")
_MAX_TEXT = 4096
_RELEARNT_AFTER_S = 3600.0


def named_fields(refusal: bytes) -> frozenset[str]:
    """The fields of the request that the body of a refusal may blame; empty where it blames none.

    OpenAI's errors have a `param`, those of servers on FastAPI, such as Mistral's, a `loc`. In other errors the names
    are words of the text.
    """
    try:
        found = msgspec.json.decode(refusal)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        found = None
    told = _told(found)
    if not told:
        text = refusal[:_MAX_TEXT].decode(errors="replace")
        told = {*_QUOTED.findall(text), *_LONG_NAME.findall(text)}
    return frozenset(told & (OMITTABLE.keys() | _LIMITS.keys() | {"top_logprobs"}))


def _told(found: Any, depth: int = 0) -> set[str]:
    """The names in each `param` and `loc`."""
    names: set[str] = set()
    if depth > 4:
        return names
    if isinstance(found, list):
        for each in found[:20]:
            names |= _told(each, depth + 1)
    elif isinstance(found, dict):
        if isinstance(param := found.get("param"), str):
            names |= set(re.split(r"[.\[]", param)[:1])
        if isinstance(place := found.get("loc"), list):
            names |= {each for each in place if isinstance(each, str)}
        for key in ("error", "message", "detail"):
            names |= _told(found.get(key), depth + 1)
    return names


@attrs.define(eq=False)
class Omissions:
    """What one upstream was found not to take. A finding is forgotten after an hour: servers are updated."""

    by_hand: Collection[str] = ()
    """The option `omit` of the upstream."""
    _until: dict[str, float] = attrs.field(factory=dict, init=False)

    def body(self, body: Mapping[str, Any], now: float) -> dict[str, Any]:
        """The body of a request without what the upstream does not take."""
        found = {name: value for name, value in body.items() if not self._is_left_out(name, now)}
        for name, other in _LIMITS.items():
            if name in found and self._until.get(name, 0.0) > now:
                found[other] = found.pop(name)
                break
        return found

    def learn(self, named: Collection[str], refusal: str, sent: Mapping[str, Any], now: float) -> list[str]:
        """Takes a refusal of the request `sent`, and returns what is sent otherwise from now on; empty: nothing.

        Args:
            named: The fields that the refusal names.
            refusal: The text of the refusal.
            sent: The body of the request.
            now: The time, in seconds.
        """
        blamed = [name for name in named if name in sent and name in NEEDLESS]
        for name, other in _LIMITS.items():
            is_known = self._until.get(other, 0.0) > now
            if name in sent and name in named and not is_known and (other in refusal or _UNKNOWN_FIELD.search(refusal)):
                blamed.append(name)
        for name in blamed:
            self._until[name] = now + _RELEARNT_AFTER_S
        return sorted(blamed)

    def _is_left_out(self, name: str, now: float) -> bool:
        if name in self.by_hand or (name == "top_logprobs" and "logprobs" in self.by_hand):
            return True
        return name in NEEDLESS and self._until.get(name, 0.0) > now
