"""How llama.cpp runs one model: what stands behind a model file in `--model`, as in `big.gguf,context=8192,slots=4`.

A table `[models.NAME]` takes the same keys. What an option leaves open, the node's settings say. Pure.
"""

import re
from typing import Annotated, Any, Literal

import msgspec

from llmactors.config.declaration import Count, CountOrZero, Tokens
from llmactors.config.nearest import nearest_or_all
from llmactors.errors import ConfigError

Choice = Literal["on", "off", "auto"]
KvType = Literal["f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl"]
"""The types that llama.cpp keeps keys and values in."""
Batch = Annotated[int, msgspec.Meta(ge=16, le=65536, extra={"placeholder": "TOKENS"})]

_OPTION = re.compile(r",([A-Za-z]\w*)=", re.ASCII)
_TAKES = {
    "context": "a whole number of tokens, 16 or more",
    "slots": "a whole number, 1 or more",
    "threads": "a whole number, 1 or more",
    "gpu_layers": "a whole number, 0 or more",
    "batch": "a whole number of tokens from 16 to 65536",
    "flash_attn": "on, off or auto",
    "kv_type": "f32, f16, bf16, q8_0, q5_1, q5_0, q4_1, q4_0 or iq4_nl",
}
"""What each option takes that is no file."""


class LlamaOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The options of one model of llama.cpp. None and the empty text: what the node or llama.cpp takes by itself."""

    context: Tokens | None = None
    """The context of each slot, in tokens."""
    slots: Count | None = None
    threads: Count | None = None
    gpu_layers: CountOrZero | None = None
    """How many layers of the model a GPU computes; more than the model has: all of them."""
    batch: Batch | None = None
    """How many tokens of a prompt are read in one step."""
    flash_attn: Choice | None = None
    kv_type: KvType | None = None
    """The type of the numbers of the context's keys and values."""
    mmproj: str = ""
    """The file of the projector with which the model takes images, named as the model."""
    lora: str = ""
    """The file of an adapter (LoRA) that changes the model, named as the model."""
    chat_template: str = ""
    """The path of a template of conversations, in Jinja, in place of the template of the model file."""

    def given(self) -> dict[str, Any]:
        """The options that are set, by name."""
        values = {name: getattr(self, name) for name in LlamaOptions.__struct_fields__}
        return {name: value for name, value in values.items() if value not in {None, ""}}


def split_options(text: str) -> tuple[str, str]:
    """Splits `SOURCE,key=value,…` behind the source. A file whose name has a part like `,x=` cannot be named."""
    match = _OPTION.search(text)
    return (text, "") if match is None else (text[: match.start()], text[match.start() :])


def parse_options(text: str) -> LlamaOptions:
    """Reads `,key=value,…`. A value may have commas, as long as no `word=` follows them.

    Raises `ConfigError` for an unknown option, an option that is given twice, or a wrong value.
    """
    parts = _OPTION.split(text)[1:]
    values: dict[str, str] = {}
    for name, value in zip(parts[::2], parts[1::2], strict=True):
        if name not in LlamaOptions.__struct_fields__:
            raise ConfigError(f"there is no option `{name}`{nearest_or_all(name, LlamaOptions.__struct_fields__)}")
        if name in values:
            raise ConfigError(f"the option `{name}` is given twice")
        values[name] = value.strip()
    return convert_options(values)


def convert_options(values: dict[str, str]) -> LlamaOptions:
    """The options with these values. Raises `ConfigError` for a wrong value."""
    for name, value in values.items():
        try:
            msgspec.convert({name: value}, LlamaOptions, strict=False)
        except msgspec.ValidationError:
            raise ConfigError(f"{name}={value} is wrong: `{name}` takes {_TAKES[name]}") from None
        if not value:
            raise ConfigError(f"nothing stands behind {name}=; write {_TAKES.get(name, 'a file')} there")
    options = msgspec.convert(values, LlamaOptions, strict=False)
    check_options(options)
    return options


def check_options(options: LlamaOptions) -> None:
    """Raises `ConfigError` for options that llama.cpp refuses together."""
    if options.flash_attn == "off" and options.kv_type not in {None, "f32", "f16", "bf16"}:
        raise ConfigError(
            f"kv_type={options.kv_type} needs flash attention: leave out flash_attn=off, or take kv_type=f16"
        )
