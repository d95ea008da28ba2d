"""The prompt of a request: its text, and its token ids once they are needed."""

from collections.abc import Iterable, Sequence

import trio

from llmactors.backends.llama.client import AnyPrompt, ImagePrompt, LlamaClient, at_most
from llmactors.backends.llama.conversation import Conversation, conversation
from llmactors.backends.llama.images import read_images
from llmactors.backends.llama.quoting import Quoting
from llmactors.backends.llama.vocabulary import Vocabulary
from llmactors.errors import InvalidRequest
from llmactors.messages import ChatMessage, GenerateRequest


class Prompt:
    """The prompt of one request. Its ids are asked for only when they are needed: most answers never need them.

    A prompt with images has no ids, since only llama.cpp's projector knows what an image becomes.
    """

    def __init__(
        self, client: LlamaClient, text: str, ids: Sequence[int] = (), *, images: tuple[str, ...] = ()
    ) -> None:
        self._client = client
        self._images = images
        self._text = text
        self._ids = list(ids)
        self.tokens = len(self._ids)
        """How many tokens the model reads; 0 until that is known."""
        self.cached_tokens: int | None = None
        """How many tokens the first stream of the answer read from llama.cpp's cache; None before that stream."""

    def __repr__(self) -> str:
        return f"<Prompt of {self.tokens or 'so far unknown'} tokens>"

    @property
    def known(self) -> AnyPrompt:
        """The ids where they are known, else the text with its images: llama.cpp takes both."""
        return ImagePrompt(self._text, self._images) if self._images else self._ids or self._text

    @property
    def at_most(self) -> int:
        """An upper bound on the number of tokens; an estimate for a prompt with images that were not counted yet."""
        return self.tokens or at_most(self.known)

    async def behind(self, ids: Sequence[int], data: bytes) -> AnyPrompt:
        """The prompt and the first tokens of the answer, which have these ids and these bytes."""
        if self._images:
            return ImagePrompt(self._text + data.decode("utf-8", "ignore"), self._images)
        return [*await self.ids(), *ids]

    async def count(self) -> None:
        """Counts the tokens, except for a prompt with images. Raises as `ids`."""
        if not self._images:
            await self.ids()

    async def ids(self) -> list[int]:
        """The token ids; llama.cpp is asked for them once. Raises `InvalidRequest` for an empty prompt."""
        if not self._ids:
            self._ids = await self._client.tokenize(self._text)
            self.counted(len(self._ids))
        return self._ids

    def counted(self, tokens: int) -> None:
        """Records how many tokens the prompt has. Raises `InvalidRequest` for 0."""
        if not tokens:
            raise InvalidRequest("prompt is empty")
        self.tokens = tokens


class PromptReader:
    """Makes the prompts for one model."""

    def __init__(self, client: LlamaClient, vocabulary: Vocabulary, quoting: Quoting, *, has_template: bool) -> None:
        self._client = client
        self._vocabulary = vocabulary
        self._quoting = quoting
        self._has_template = has_template

    def __repr__(self) -> str:
        return f"<PromptReader {self._client!r} has_template={self._has_template}>"

    async def read(self, request: GenerateRequest) -> Prompt:
        """The prompt of `request`. Raises `InvalidRequest` for an empty one, and for an id unknown to the model."""
        self._check_ids("prompt", request.prompt_ids)
        self._check_ids("logit_bias", [token for token, _ in request.logit_bias])
        if request.prompt_ids:
            return Prompt(self._client, "", request.prompt_ids)
        if self._has_template and not request.raw:
            messages = request.messages or (ChatMessage("user", request.prompt),)
            tools = request.tools.definitions if request.tools else ""
            return await self._read_chat(conversation(messages, tools, request.reasoning_effort))
        if any(message.images for message in request.messages):
            raise InvalidRequest("`messages`: an image needs a chat template, and this model has none")
        if not request.text:
            raise InvalidRequest("prompt is empty")
        return Prompt(self._client, request.text)

    async def input_ids(self, given: str | Sequence[int]) -> list[int]:
        """The token ids of an input for an embedding. Raises `InvalidRequest` for an id unknown to the model."""
        if isinstance(given, str):
            return await self._client.tokenize(given, parse_special=False)
        self._check_ids("input", given)
        return list(given)

    async def _read_chat(self, talk: Conversation) -> Prompt:
        sheltered = self._quoting.shelter(talk.texts)
        if sheltered is None:
            images = await trio.to_thread.run_sync(read_images, talk.images) if talk.images else ()
            return Prompt(self._client, await self._client.apply_template(talk), images=images)
        if talk.images:
            # The names are kept from controlling the model by ids, and a prompt with images has none.
            raise InvalidRequest(
                f"`messages`: {sheltered.quoted[0]!r} is a control token of this model, and is not accepted together "
                "with images; leave it out"
            )
        text = await self._client.apply_template(talk.with_texts(sheltered.contents))
        ids: list[int] = []
        for part, controls in sheltered.cut(text):
            ids += await self._client.tokenize(part, parse_special=controls, add_special=not ids)
        return Prompt(self._client, text, ids)

    def _check_ids(self, field: str, ids: Iterable[int]) -> None:
        known = len(self._vocabulary.pieces)
        if (unknown := next((token for token in ids if token >= known), None)) is not None:
            raise InvalidRequest(f"`{field}`: there is no token {unknown}; the model's ids are below {known}")
