"""What `--model` says: which kind of backend, what it serves, and under which name. Pure."""

import enum
import re
from pathlib import PurePath

import attrs

from llmactors.errors import ConfigError

_HUB_FILE = re.compile(r"hf:[^/]+/[^/]+/.*[^/]")
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
    alias, source = _split_alias(text.strip())
    if source == "mock" or source.startswith("mock:"):
        return ModelSpec(alias or "mock", ModelKind.MOCK, source.partition(":")[2])
    name = source
    if source.startswith("hf:"):
        if not _HUB_FILE.fullmatch(source):
            raise ConfigError(f"`model`: {text!r} is not hf:OWNER/REPO/FILE")
        name = PurePath(source).name.removesuffix(".gguf")
    elif source.endswith(".gguf"):
        name = PurePath(source).name.removesuffix(".gguf")
    if not name or name.startswith("="):
        raise ConfigError(f"`model`: {text!r} names no model")
    return ModelSpec(alias or name, ModelKind.LLAMA, source)


def _split_alias(text: str) -> tuple[str, str]:
    """An alias is a plain name before the first `=`; the options of the mock have such signs of their own.

    So a file `x=y.gguf` here has to be called `./x=y.gguf`.
    """
    head, equals, rest = text.partition("=")
    if equals and _ALIAS.fullmatch(head):
        return head, rest
    return "", text


def parse_models(texts: tuple[str, ...]) -> list[ModelSpec]:
    """Reads several. Raises `ConfigError`, also where two have one name."""
    specs: dict[str, ModelSpec] = {}
    for text in texts:
        spec = parse_model(text)
        if spec.name in specs:
            source = text.strip().removeprefix(f"{spec.name}=")
            raise ConfigError(f"`model`: two models are called {spec.name!r}; name one as in other={source}")
        specs[spec.name] = spec
    return list(specs.values())
