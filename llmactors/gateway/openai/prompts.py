"""The field `prompt` of completions: texts, or ids of the model's own tokens. Pure."""

from typing import Annotated, Any

import msgspec

from llmactors.gateway.openai.errors import InvalidParameter

MAX_PROMPT_IDS = 64 * 1024
PROMPT_FORMS = "`prompt` must be a text, a list of texts, a list of token ids, or a list of such lists"

TokenId = Annotated[int, msgspec.Meta(ge=0, lt=2**31)]


def read_prompts(prompt: str | list[Any], most_texts: int) -> list[str | tuple[int, ...]]:
    """The prompts, each a text or token ids; `most_texts` of them at most. Raises `InvalidParameter`."""
    if isinstance(prompt, str):
        return [prompt]
    most = MAX_PROMPT_IDS if prompt and isinstance(prompt[0], int) else most_texts
    if len(prompt) > most:
        raise InvalidParameter("prompt", f"`prompt` has {len(prompt)} items; at most {most} are accepted")
    for kind in (list[TokenId], list[str], list[list[TokenId]]):
        try:
            found: list[Any] = msgspec.convert(prompt, kind)
        except msgspec.ValidationError:
            continue
        if kind == list[TokenId]:
            return [tuple(found)]
        return [each if isinstance(each, str) else tuple(each) for each in found]
    raise InvalidParameter("prompt", PROMPT_FORMS)
