"""The body that clients send to `/v1/embeddings`, and the requests that a call becomes."""

from typing import Annotated, Any, Literal

import attrs
import msgspec

from llmactors.gateway.body import NonEmpty
from llmactors.gateway.openai.errors import InvalidParameter
from llmactors.gateway.openai.fields import read_fields
from llmactors.gateway.openai.inputs_body import MAX_INPUTS, Input, InputsBody
from llmactors.gateway.openai.prompts import MAX_PROMPT_IDS, TokenId

MAX_DIMENSIONS = 65536

_INPUTS = "`input` must be a text, a list of texts, a list of token ids, or a list of such lists"


@attrs.frozen(kw_only=True)
class EmbeddingsBody:
    """The body of `POST /v1/embeddings`."""

    model: NonEmpty
    input: str | list[Any]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, msgspec.Meta(ge=1, le=MAX_DIMENSIONS)] | None = None

    def requests(self, deadline_ms: int | None) -> list["InputsBody"]:
        """The requests of the call, each with a part of the inputs, in the order of the inputs.

        Raises `InvalidParameter` for wrong inputs.
        """
        inputs = _read_inputs(self.input)
        whole = InputsBody(
            model=self.model, inputs=tuple(inputs), dimensions=self.dimensions or 0, deadline_ms=deadline_ms
        )
        return whole.split()


def read_embeddings(fields: dict[str, Any]) -> EmbeddingsBody:
    """The body of a call. Raises `InvalidParameter`, which names the field."""
    return read_fields(fields, EmbeddingsBody, {})


def _read_inputs(given: str | list[Any]) -> list[Input]:
    """The inputs, each a text or token ids. Raises `InvalidParameter`."""
    if isinstance(given, str):
        given = [given]
    most = MAX_PROMPT_IDS if given and isinstance(given[0], int) else MAX_INPUTS
    if len(given) > most:
        raise InvalidParameter("input", f"`input` has {len(given)} items; at most {most} are accepted")
    inputs = _convert(given)
    if not inputs:
        raise InvalidParameter("input", "`input` is empty")
    for place, each in enumerate(inputs):
        if not each:
            raise InvalidParameter("input", f"`input[{place}]` is empty")
        if len(each) > MAX_PROMPT_IDS and not isinstance(each, str):
            raise InvalidParameter(
                "input", f"`input[{place}]` has {len(each)} token ids; at most {MAX_PROMPT_IDS} are accepted"
            )
    return inputs


def _convert(given: list[Any]) -> list[Input]:
    for kind in (list[str], list[TokenId], list[list[TokenId]]):
        try:
            found: list[Any] = msgspec.convert(given, kind)
        except msgspec.ValidationError:
            continue
        if kind == list[TokenId] and found:
            return [tuple(found)]
        return [each if isinstance(each, str) else tuple(each) for each in found]
    raise InvalidParameter("input", _INPUTS)
