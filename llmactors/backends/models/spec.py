"""What `--model` says: which kind of backend, what it serves, and under which name. Pure."""

import enum
import re
from collections.abc import Collection
from pathlib import PurePath

import attrs

from llmactors.backends.mock.settings import MockSettings
from llmactors.backends.openai.settings import OpenAISettings
from llmactors.errors import ConfigError

_HUB_FILE = re.compile(r"hf:[^/]+/[^/]+/.*[^/]")
_ALIAS = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_PATH = r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*"
_DOTTED = re.compile(rf"{_PATH}:{_PATH}(?:,.*)?", re.ASCII)


class ModelKind(enum.Enum):
    """Which backend serves it."""

    MOCK = "mock"
    LLAMA = "llama"
    OPENAI = "openai"
    CUSTOM = "custom"


@attrs.frozen
class ModelSpec:
    """One model to serve."""

    name: str
    """What clients call it."""
    kind: ModelKind
    source: str
    """MOCK, OPENAI: the options. LLAMA: NAME, PATH.gguf or hf:OWNER/REPO/FILE. CUSTOM: `NAME` of an entry point or
    `MODULE:ATTRIBUTE`, then the options as in `,key=value`."""


def parse_model(text: str, *, installed: Collection[str] = ()) -> ModelSpec:
    """Reads `[ALIAS=]SOURCE`; `installed` are the names of backends that packages offer. Raises `ConfigError`."""
    alias, source = _split_alias(text.strip())
    if source == "mock" or source.startswith("mock:"):
        options = source.partition(":")[2]
        MockSettings.parse(options)  # refuses what is wrong with the options
        return ModelSpec(alias or "mock", ModelKind.MOCK, options)
    if source == "openai" or source.startswith("openai:"):
        options = source.partition(":")[2]
        upstreams = OpenAISettings.parse(options, name=alias).upstreams
        return ModelSpec(alias or upstreams[0].model, ModelKind.OPENAI, options)
    if (custom := _custom(source, installed)) is not None:
        name, options = custom
        return ModelSpec(alias or name.rpartition(":")[2], ModelKind.CUSTOM, f"{name},{options}" if options else name)
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


def _custom(source: str, installed: Collection[str]) -> tuple[str, str] | None:
    """What somebody else's backend is called, and its options: `NAME`, `NAME:OPTIONS` or `MODULE:ATTRIBUTE,OPTIONS`."""
    for sign in (":", ","):
        name, _, options = source.partition(sign)
        if name in installed:
            return name, options
    if source.startswith("hf:") or source.endswith(".gguf") or not _DOTTED.fullmatch(source):
        return None
    name, _, options = source.partition(",")
    return name, options


def _split_alias(text: str) -> tuple[str, str]:
    """An alias is a plain name before the first `=`; the options of a backend have such signs of their own.

    So a file `x=y.gguf` here has to be called `./x=y.gguf`.
    """
    head, equals, rest = text.partition("=")
    if equals and _ALIAS.fullmatch(head):
        return head, rest
    return "", text


def parse_models(texts: tuple[str, ...], *, installed: Collection[str] = ()) -> list[ModelSpec]:
    """Reads several. Raises `ConfigError`, also where two have one name."""
    specs: dict[str, ModelSpec] = {}
    for text in texts:
        spec = parse_model(text, installed=installed)
        if spec.name in specs:
            source = text.strip().removeprefix(f"{spec.name}=")
            raise ConfigError(f"`model`: two models are called {spec.name!r}; name one as in other={source}")
        specs[spec.name] = spec
    return list(specs.values())
