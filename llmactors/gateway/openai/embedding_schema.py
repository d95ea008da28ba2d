"""The body that clients send to `/v1/embeddings`, and the requests that a call becomes."""

import time
from typing import Annotated, Any, Literal

import attrs
import msgspec

from llmactors.gateway.answer_rules import AnswerRules
from llmactors.gateway.body import NonEmpty
from llmactors.gateway.openai.errors import InvalidParameter
from llmactors.gateway.openai.fields import read_fields
from llmactors.gateway.openai.prompts import MAX_PROMPT_IDS, TokenId
from llmactors.gateway.openai.schema import CHARS_PER_TOKEN
from llmactors.messages import GenerateRequest

MAX_INPUTS = 2048
"""The number of inputs of one call, as at OpenAI."""
MAX_REQUESTS = 32
"""The number of requests that one call becomes. A call with more inputs has several inputs in each request, so that one
call does not fill the queue."""
MAX_DIMENSIONS = 65536

Input = str | tuple[int, ...]

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
        size = -(-len(inputs) // MAX_REQUESTS)
        parts = [inputs[start : start + size] for start in range(0, len(inputs), size)]
        return [
            InputsBody(
                model=self.model,
                inputs=tuple(part),
                dimensions=self.dimensions or 0,
                deadline_ms=deadline_ms,
                requests=len(parts),
            )
            for part in parts
        ]


@attrs.frozen(kw_only=True)
class InputsBody:
    """Some inputs of a call: a request of its own in the ledger."""

    model: str
    inputs: tuple[Input, ...]
    dimensions: int
    deadline_ms: int | None
    requests: int
    """The number of requests of the call."""

    @property
    def max_tokens(self) -> int:
        """The number of vectors: each is one token of the log."""
        return len(self.inputs)

    @property
    def priority(self) -> int:
        """The default class: OpenAI's API has no classes."""
        return 1

    @property
    def prompt_chars(self) -> int:
        """The length of the longest input. The bound on the body bounds all inputs together."""
        return max(len(each) if isinstance(each, str) else len(each) * CHARS_PER_TOKEN for each in self.inputs)

    @property
    def rules(self) -> AnswerRules | None:
        """None: an embedding has no text."""
        return None

    @property
    def field_names(self) -> dict[str, str]:
        """None: the fields of the request have the client's names."""
        return {}

    def to_request(
        self,
        request_id: str,
        *,
        model: str,
        tenant: str,
        priority: int,
        weight: float,
        resume_grace_s: float,
        session: str = "",  # noqa: ARG002 - vectors have no conversation
    ) -> GenerateRequest:
        """The request for the ledger."""
        return GenerateRequest(
            id=request_id,
            model=model,
            prompt="",
            max_tokens=self.max_tokens,
            temperature=0.0,
            raw=True,
            tenant=tenant,
            priority=priority,
            weight=weight,
            deadline_ms=self.deadline_ms,
            resume_grace_ms=int(resume_grace_s * 1000),
            created_ms=time.time_ns() // 1_000_000,
            choices=self.requests,
            inputs=self.inputs,
            dimensions=self.dimensions,
        )


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
