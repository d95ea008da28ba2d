"""The rules for drawing tokens that not every backend honours, as clients send them on all routes. Pure.

OpenAI's API has none of these fields. The names are those of vLLM and llama.cpp, which other servers and their clients
follow.
"""

from typing import Annotated, Any

import attrs
import msgspec

from llmactors.errors import InvalidRequest


def defaulted_fields(temperature: float | None, top_p: float | None) -> tuple[str, ...]:
    """The fields that a client did not give, as `GenerateRequest.defaulted` has them.

    A `top_p` of 0 asks for the most probable token, which the request has as a temperature of 0.
    """
    given = {"temperature": temperature if top_p != 0 else 0.0, "top_p": top_p or None}
    return tuple(name for name, value in given.items() if value is None)


@attrs.frozen(kw_only=True)
class SamplingFields:
    """The fields of a body. A field that the model's backend does not honour is refused by its name."""

    top_k: Annotated[int, msgspec.Meta(ge=-1, lt=2**31)] | None = None
    """0 and -1: all tokens."""
    min_p: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    repeat_penalty: Annotated[float, msgspec.Meta(gt=0, le=100)] | None = None
    """llama.cpp's name of the penalty. 1 changes nothing."""
    repetition_penalty: Annotated[float, msgspec.Meta(gt=0, le=100)] | None = None
    """vLLM's name of the penalty."""
    min_tokens: Annotated[int, msgspec.Meta(ge=0, lt=2**31)] | None = None
    ignore_eos: bool | None = None

    @property
    def field_names(self) -> dict[str, str]:
        """The names that the client sent for fields of the request, where the names differ."""
        return {"repeat_penalty": "repetition_penalty"} if self.repeat_penalty is None else {}

    def sampling(self, max_tokens: int) -> dict[str, Any]:
        """The fields of the request for the ledger. Raises `InvalidRequest` for fields that contradict each other."""
        penalties = {self.repeat_penalty, self.repetition_penalty} - {None}
        if len(penalties) > 1:
            raise InvalidRequest(
                "`repetition_penalty`: this is another name of `repeat_penalty`, and the two have different values; "
                "send one of them"
            )
        if (self.min_tokens or 0) > max_tokens:
            raise InvalidRequest(f"`min_tokens`: {self.min_tokens} is more than `max_tokens`, which is {max_tokens}")
        return {
            "top_k": max(0, self.top_k or 0),
            "min_p": self.min_p or 0.0,
            "repeat_penalty": next(iter(penalties), 1.0),
            "min_tokens": self.min_tokens or 0,
            "ignore_eos": bool(self.ignore_eos),
        }
