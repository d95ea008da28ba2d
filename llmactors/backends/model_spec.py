"""What `--model` says: which kind of backend, what it serves, and under which name. Pure."""

import enum
import re
from pathlib import PurePath

import attrs

from llmactors.errors import ConfigError

_ALIAS = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class ModelKind(enum.Enum):
    """Which backend serves it."""

    MOCK = "mock"
    LLAMA = "llama"


@attrs.frozen
class ModelSpec:
    """One model to serve."""

    name: str
    """What clients call it."""
    kind: ModelKind
    source: str
    """MOCK: the options. LLAMA: NAME, PATH.gguf or hf:OWNER/REPO/FILE."""


def parse_model(text: str) -> ModelSpec:
    """Reads `[ALIAS=]SOURCE`. Raises `ConfigError`."""
    alias, source = _split_alias(text)
    if source == "mock" or source.startswith("mock:"):
        return ModelSpec(alias or "mock", ModelKind.MOCK, source.partition(":")[2])
    if not source:
        raise ConfigError(f"`model`: {text!r} names no model")
    if source.startswith("hf:") or source.endswith(".gguf"):
        return ModelSpec(alias or PurePath(source).name.removesuffix(".gguf"), ModelKind.LLAMA, source)
    return ModelSpec(alias or source, ModelKind.LLAMA, source)


def _split_alias(text: str) -> tuple[str, str]:
    """An alias is a plain name before the first `=`; the options of the mock have such signs of their own."""
    head, equals, rest = text.partition("=")
    if equals and _ALIAS.fullmatch(head):
        return head, rest
    return "", text


def parse_models(texts: tuple[str, ...]) -> list[ModelSpec]:
    """Reads several. Raises `ConfigError`, also where two have one name."""
    specs = [parse_model(text) for text in texts]
    names = [spec.name for spec in specs]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"`model`: two models are called {name!r}; name one with ALIAS={name}")
    return specs
