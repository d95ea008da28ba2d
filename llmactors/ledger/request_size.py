"""How large a request is. The gateway computes the size once, and the ledger carries it with the request. Pure."""

from collections.abc import Iterable, Iterator

import attrs

from llmactors.messages import ChatMessage, GenerateRequest

BYTES_PER_TOKEN = 4
"""The estimated bytes per prompt token, which is about right for English. Where the estimate was too low, a token
limit is charged the rest once the model has counted the tokens."""
IMAGE_TOKENS = 1024
"""The estimated prompt tokens per image: models make some hundred to some thousand tokens of an image, by its size in
pixels, which the bytes of the image do not tell."""


@attrs.frozen
class RequestSize:
    """The size of one request, in two units."""

    bytes: int
    """The bytes of everything that a client can make long, which the queue's bound `max_queued_bytes` counts."""
    prompt_tokens: int
    """An estimate, which token limits reserve."""

    @classmethod
    def of(cls, request: GenerateRequest) -> "RequestSize":
        """The size of `request`, in time proportional to its length."""
        texts = (each for each in request.inputs if isinstance(each, str))
        ids = len(request.prompt_ids) + sum(len(each) for each in request.inputs if not isinstance(each, str))
        prompt_bytes = _bytes_of((request.prompt, *_message_texts(request.messages), *texts))
        query_bytes = _bytes_of((request.query or "",))
        if request.tools is not None:
            prompt_bytes += _bytes_of((request.tools.definitions,))
        other_bytes = _bytes_of((request.metadata, request.response_format, *request.stop))
        if request.constraint is not None:
            other_bytes += _bytes_of((request.constraint.grammar, request.constraint.trigger))
        images = [len(image.url) for message in request.messages for image in message.images]
        return cls(
            bytes=ids * BYTES_PER_TOKEN + prompt_bytes + query_bytes + other_bytes + sum(images),
            # A model reads the query again with each document.
            prompt_tokens=ids
            + -(-(prompt_bytes + query_bytes * len(request.inputs)) // BYTES_PER_TOKEN)
            + len(images) * IMAGE_TOKENS,
        )


def _message_texts(messages: Iterable[ChatMessage]) -> Iterator[str]:
    for message in messages:
        yield message.content
        for call in message.tool_calls:
            yield call.name
            yield call.arguments


def _bytes_of(texts: Iterable[str]) -> int:
    return sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)
