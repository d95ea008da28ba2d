"""How an answer goes on after its upstream or its worker was lost. Pure.

The strategies, of which the first one that is possible is taken:

1. `IDS`: an upstream with the same vocabulary goes on behind the token ids of the prompt and of the answer so far. This
   is exact, and holds for answers that follow a grammar too: the upstream gets what is left of the grammar.
2. `TEXT`: an upstream continues the text of the answer. Calls of tools, reasoning and texts with a prescribed form are
   never continued in this way: nothing tells the model that it is inside of a call.
3. `ANEW`: an upstream begins the answer again, and what the client has already is dropped, as long as it is the same.
   Only an answer that leaves nothing to chance, greedy or with a seed, is asked for again.
"""

import enum
from collections.abc import Iterable, Sequence

import attrs

from llmactors.backends.openai.requests.body import is_raw
from llmactors.backends.openai.responses.chunks import NO_TOKEN
from llmactors.messages import GenerateRequest, PromptTokens, TokenDelta
from llmactors.tool_calls.formats import FORMATS


class ContinuationStrategy(enum.Enum):
    """How an upstream is asked for an answer, or for the rest of an answer."""

    PLAIN = "plain"
    """From the beginning, at a route of OpenAI's API."""
    IDS_BACK = "ids back"
    """From the beginning, at a route of OpenAI's API that sends the ids of all tokens."""
    IDS = "ids"
    """Behind token ids, at the engine's own route; also from the beginning."""
    TEXT = "text"
    """Behind the text of the answer so far."""
    ANEW = "anew"
    """From the beginning, by one of the first three strategies, without what the client has already."""


Part = tuple[str, int]
"""What a text of an answer is: `content` or `reasoning`, or the `name` or `arguments` of a call with its number."""
CONTENT: Part = ("content", 0)
REASONING: Part = ("reasoning", 0)


@attrs.frozen
class UnknownIds:
    """Tokens of which only the last id is known, because the others end inside of a character."""

    text: str
    count: int
    last: int


@attrs.frozen
class LoggedAnswer:
    """What the log has of an answer."""

    count: int
    """How many tokens the log has."""
    text: str
    parts: tuple[tuple[Part, str], ...]
    """The texts of the answer in their order. Neighbours are different parts."""
    ids: tuple[int | UnknownIds, ...] | None
    """The ids of all tokens; None where ids are missing that do not follow from their texts."""
    prompt: PromptTokens | None
    """The prompt as ids; None where the answer did not begin with ids."""

    @classmethod
    def of(cls, deltas: Sequence[TokenDelta]) -> "LoggedAnswer":
        """What these tokens are."""
        extra = deltas[0].extra if deltas else None
        return cls(
            len(deltas),
            "".join(delta.text for delta in deltas),
            tuple(_merged(part for delta in deltas for part in parts_of(delta))),
            _ids_of(deltas),
            None if extra is None else extra.prompt,
        )

    def is_of(self, vocabulary: str) -> bool:
        """Whether the ids of the log belong to the vocabulary with this fingerprint, which is not empty."""
        return bool(vocabulary) and self.prompt is not None and self.prompt.vocabulary == vocabulary

    @property
    def has_calls(self) -> bool:
        """Whether an upstream has read a call of a tool in the text."""
        return any(part not in {CONTENT, REASONING} for part, _ in self.parts)

    @property
    def has_reasoning(self) -> bool:
        """Whether an upstream has read reasoning in the text."""
        return any(part == REASONING for part, _ in self.parts)

    @property
    def is_reasoning(self) -> bool:
        """Whether an upstream has read reasoning in the text that may not be over."""
        return bool(self.parts) and self.parts[-1][0] == REASONING


def parts_of(delta: TokenDelta) -> list[tuple[Part, str]]:
    """The texts of a token."""
    found: list[tuple[Part, str]] = []
    if delta.extra is not None:
        if delta.extra.reasoning:
            found.append((REASONING, delta.extra.reasoning))
        for call in delta.extra.tool_calls:
            found += [(("name", call.index), call.name)] if call.name else []
            found += [(("arguments", call.index), call.arguments)] if call.arguments else []
    return [*found, (CONTENT, delta.text)] if delta.text else found


def begin(
    request: GenerateRequest, *, takes_ids: bool, sends_ids: bool, splits_reasoning: bool
) -> ContinuationStrategy:
    """How an upstream is asked for an answer from its beginning.

    Args:
        request: The request.
        takes_ids: Whether the upstream runs a server that works with ids, and tells the ids of a text.
        sends_ids: Whether that server sends ids at the routes of OpenAI's API.
        splits_reasoning: Whether the upstream's chat route takes reasoning out of the text.
    """
    if needs_ids(request):
        return ContinuationStrategy.IDS
    if not takes_ids or not _may_use_ids(request):
        return ContinuationStrategy.PLAIN
    if request.constraint is not None:
        return ContinuationStrategy.IDS
    if sends_ids:
        return ContinuationStrategy.IDS_BACK
    return ContinuationStrategy.PLAIN if splits_reasoning and not is_raw(request) else ContinuationStrategy.IDS


def needs_ids(request: GenerateRequest) -> bool:
    """Whether only an engine's own route serves the request: this node reads its answer, or makes its grammar."""
    has_grammar = request.constraint is not None and not request.response_format
    return has_grammar or _is_read_here(request)


def has_images(request: GenerateRequest) -> bool:
    """Whether the conversation has images, which have no ids."""
    return any(message.images for message in request.messages)


def go_on(request: GenerateRequest, logged: LoggedAnswer, *, has_engine: bool) -> list[ContinuationStrategy]:
    """The strategies by which an answer can go on, the best one first."""
    strategies: list[ContinuationStrategy] = []
    is_told_apart = logged.has_calls or logged.is_reasoning
    may_use_ids = _is_read_here(request) or (_may_use_ids(request) and not is_told_apart)
    if has_engine and logged.ids is not None and may_use_ids:
        strategies.append(ContinuationStrategy.IDS)
    has_form = request.constraint is not None or request.response_format or _is_read_here(request)
    # A server that looks for reasoning may take the rest for reasoning: the end of the reasoning is not in its text.
    is_plain = not logged.has_calls and not logged.has_reasoning
    if logged.text and not has_form and is_plain and not request.prompt_ids:
        strategies.append(ContinuationStrategy.TEXT)
    if request.temperature <= 0 or request.seed is not None:
        strategies.append(ContinuationStrategy.ANEW)
    return strategies


def _is_read_here(request: GenerateRequest) -> bool:
    """Whether a reader of the log finds calls or reasoning in the text, so that the log has the text as it is made."""
    reads_calls = request.tools is not None and request.tools.format in FORMATS
    return reads_calls or request.reasoning_tags is not None


def _may_use_ids(request: GenerateRequest) -> bool:
    """Whether ids may say all of the request. The chat route is needed for images, and for calls that it reads."""
    follows_upstream = bool(request.response_format) and request.constraint is None
    return not has_images(request) and request.tools is None and not follows_upstream


def _merged(parts: Iterable[tuple[Part, str]]) -> list[tuple[Part, str]]:
    found: list[tuple[Part, list[str]]] = []
    for part, text in parts:
        if found and found[-1][0] == part:
            found[-1][1].append(text)
        else:
            found.append((part, [text]))
    return [(part, "".join(texts)) for part, texts in found]


def _ids_of(deltas: Sequence[TokenDelta]) -> tuple[int | UnknownIds, ...] | None:
    found: list[int | UnknownIds] = []
    unknown = 0
    for delta in deltas:
        if delta.token == NO_TOKEN:
            if delta.text:
                return None
            unknown += 1
        elif unknown:
            found.append(UnknownIds(delta.text, unknown + 1, delta.token))
            unknown = 0
        else:
            found.append(delta.token)
    return None if unknown else tuple(found)
