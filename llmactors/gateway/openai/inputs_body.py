"""The requests that a call with inputs becomes: a call for embeddings, or for the scores of documents."""

import time

import attrs

from llmactors.gateway.answer_rules import AnswerRules
from llmactors.gateway.openai.schema import CHARS_PER_TOKEN
from llmactors.messages import GenerateRequest

MAX_INPUTS = 2048
"""The number of inputs of one call, as at OpenAI."""
MAX_REQUESTS = 32
"""The number of requests that one call becomes. A call with more inputs has several inputs in each request, so that one
call does not fill the queue."""

Input = str | tuple[int, ...]


@attrs.frozen(kw_only=True)
class InputsBody:
    """Some inputs of a call: a request of its own in the ledger."""

    model: str
    inputs: tuple[Input, ...]
    deadline_ms: int | None
    dimensions: int = 0
    query: str | None = None
    requests: int = 1
    """The number of requests of the call."""

    def split(self, least: int = 1) -> list["InputsBody"]:
        """The requests of a call with these inputs, in the order of the inputs. Each but the last has at least `least`
        inputs.
        """
        size = max(least, -(-len(self.inputs) // MAX_REQUESTS))
        parts = [self.inputs[start : start + size] for start in range(0, len(self.inputs), size)]
        return [attrs.evolve(self, inputs=part, requests=len(parts)) for part in parts]

    @property
    def max_tokens(self) -> int:
        """The number of vectors or scores: each is one token of the log."""
        return len(self.inputs)

    @property
    def priority(self) -> int:
        """The default class: OpenAI's API has no classes."""
        return 1

    @property
    def prompt_chars(self) -> int:
        """The length of the longest input, with the query. The bound on the body bounds all inputs together."""
        longest = max(len(each) if isinstance(each, str) else len(each) * CHARS_PER_TOKEN for each in self.inputs)
        return longest + len(self.query or "")

    @property
    def rules(self) -> AnswerRules | None:
        """None: neither vectors nor scores have a text."""
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
        session: str = "",  # noqa: ARG002 - inputs have no conversation
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
            query=self.query,
        )
