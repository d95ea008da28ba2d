"""What `--model` says: which kind of backend, what it serves, and under which name. Pure.

The kinds that have a prefix, as in `mock:OPTIONS`, are handed in by `backends.build`, which lists all kinds. The other
two are known by their form: a backend that others wrote, and a model file or its name.
"""

import re
from collections.abc import Callable, Collection, Mapping
from pathlib import PurePath

import attrs

from llmactors.config.llama_options import LlamaOptions, parse_options, split_options
from llmactors.errors import ConfigError

CUSTOM = "custom"
LLAMA = "llama"

NameModel = Callable[[str, str], str]
"""Gives a model's name from the options behind a prefix and the alias, which may be empty. Raises `ConfigError`."""

_HUB_FILE = re.compile(r"hf:[^/]+/[^/]+/.*[^/]")
_ALIAS = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_PATH = r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*"
_DOTTED = re.compile(rf"{_PATH}:{_PATH}(?:,.*)?", re.ASCII)


@attrs.frozen
class ModelSpec:
    """One model to serve."""

    name: str
    """What clients call the model."""
    kind: str
    """A key of `backends.build.KINDS`."""
    source: str
    """What the kind reads.

    A prefix's options; for `llama`: NAME, PATH.gguf or hf:OWNER/REPO/FILE; for `custom`: `NAME` of an entry point or
    `MODULE:ATTRIBUTE`, then the options as in `,key=value`.
    """
    options: LlamaOptions = attrs.field(factory=LlamaOptions)
    """For `llama`: what stands behind the source. The other kinds have their options in `source`."""


def parse_model(text: str, *, prefixes: Mapping[str, NameModel], offered: Collection[str]) -> ModelSpec:
    """Reads `[ALIAS=]SOURCE`, and `[ALIAS=]SOURCE,key=value,…` for llama.cpp.

    Args:
        text: What `--model` says.
        prefixes: The kinds that have a prefix, each with its way to name a model.
        offered: The names of backends that installed packages offer.

    Raises:
        ConfigError: The text names no model, or the options are wrong.
    """
    alias, source = _split_alias(text.strip())
    prefix, _, options = source.partition(":")
    if (name_model := prefixes.get(prefix)) is not None:
        return ModelSpec(name_model(options, alias), prefix, options)
    if (custom := _custom(source, offered)) is not None:
        name, options = custom
        return ModelSpec(alias or name.rpartition(":")[2], CUSTOM, f"{name},{options}" if options else name)
    source, behind = split_options(source)
    try:
        chosen = parse_options(behind)
    except ConfigError as error:
        raise ConfigError(f"`model`: {text!r}: {error.message}") from None
    name = source
    if source.startswith("hf:"):
        if not _HUB_FILE.fullmatch(source):
            raise ConfigError(f"`model`: {text!r} is not hf:OWNER/REPO/FILE")
        name = PurePath(source).name.removesuffix(".gguf")
    elif source.endswith(".gguf"):
        name = PurePath(source).name.removesuffix(".gguf")
    if not name or name.startswith("="):
        raise ConfigError(f"`model`: {text!r} names no model")
    return ModelSpec(alias or name, LLAMA, source, chosen)


def _custom(source: str, offered: Collection[str]) -> tuple[str, str] | None:
    """The name and the options of a backend that others wrote: `NAME`, `NAME:OPTIONS` or `MODULE:ATTRIBUTE,OPTIONS`."""
    for sign in (":", ","):
        name, _, options = source.partition(sign)
        if name in offered:
            return name, options
    if source.startswith("hf:") or source.endswith(".gguf") or not _DOTTED.fullmatch(source):
        return None
    name, _, options = source.partition(",")
    return name, options


def _split_alias(text: str) -> tuple[str, str]:
    """Splits at the first `=` where a plain name stands before it: the options of a backend have such signs too.

    So a file `x=y.gguf` in the working directory has to be called `./x=y.gguf`.
    """
    head, equals, rest = text.partition("=")
    if equals and _ALIAS.fullmatch(head):
        return head, rest
    return "", text


def parse_models(
    texts: Collection[str], *, prefixes: Mapping[str, NameModel], offered: Collection[str]
) -> list[ModelSpec]:
    """Reads several, as `parse_model`. Raises `ConfigError` also where two models have one name."""
    specs: dict[str, ModelSpec] = {}
    for text in texts:
        spec = parse_model(text, prefixes=prefixes, offered=offered)
        if spec.name in specs:
            source = text.strip().removeprefix(f"{spec.name}=")
            raise ConfigError(f"`model`: two models are called {spec.name!r}; name one as in other={source}")
        specs[spec.name] = spec
    return list(specs.values())
