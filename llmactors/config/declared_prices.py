"""Prices of models that are declared in a configuration file: `[prices.NAME]`."""

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec

from llmactors.config.nearest import nearest_or_all
from llmactors.errors import ConfigError
from llmactors.prices import Price

MAX_PRICES = 4096
_PerMillion = Annotated[float, msgspec.Meta(ge=0, le=1_000_000)]


class DeclaredPrice(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a table `[prices.NAME]` says of one model, in units of the operator's currency for a million tokens."""

    prompt: _PerMillion = 0.0
    """The price of the tokens of prompts."""
    completion: _PerMillion = 0.0
    """The price of the tokens of answers."""
    cached: _PerMillion | None = None
    """The price of the tokens of prompts that the backend read from its cache. None: that of other prompt tokens."""

    @property
    def price(self) -> Price:
        """The price as the ledger counts it."""
        return Price.per_million(self.prompt, self.completion, self.cached)


def convert_prices(value: object, name: str) -> dict[str, DeclaredPrice]:
    """The prices that the tables of the setting `name` declare. Raises `ConfigError` that names table and key."""
    if not isinstance(value, Mapping):
        raise ConfigError(f"`{name}` must be tables, as in [{name}.my-model], not {value!r}")
    if len(value) > MAX_PRICES:
        raise ConfigError(f"`{name}` must be at most {MAX_PRICES} tables, not {len(value)}")
    return {model: _convert_one(f"{name}.{model}", table) for model, table in value.items()}


def _convert_one(path: str, table: Any) -> DeclaredPrice:
    if isinstance(table, DeclaredPrice):
        return table
    if not isinstance(table, Mapping):
        raise ConfigError(f"`{path}` must be a table with the prices of one model, not {table!r}")
    fields = DeclaredPrice.__struct_fields__
    for key in table:
        if key not in fields:
            raise ConfigError(f"`{path}`: there is no key `{key}`{nearest_or_all(key, fields)}")
    try:
        return msgspec.convert(table, DeclaredPrice, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigError(f"`{path}`: {error}") from None
