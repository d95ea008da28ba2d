"""Integers and numbers between two bounds, as grammar. Pure.

A bound becomes a choice of digits, place by place: after the digits that are equal to those of the bound, the next
digit may be higher or lower, and then any digits follow.
"""

import json
from collections.abc import Mapping
from decimal import ROUND_FLOOR, Decimal
from typing import Any

import attrs

from llmactors.grammar.characters import CharSet
from llmactors.grammar.errors import SchemaError
from llmactors.grammar.expressions import (
    EMPTY,
    Expression,
    Literal,
    Repetition,
    choice,
    optional,
    sequence,
)
from llmactors.grammar.json_schema import json_text
from llmactors.grammar.json_schema.builder import GrammarBuilder
from llmactors.grammar.json_schema.json_text import DIGIT, MAX_DIGITS

_TOO_LARGE = Decimal(10**MAX_DIGITS)
_FORMATS = {"int32": (-(2**31), 2**31 - 1), "uint32": (0, 2**32 - 1), "uint64": (0, None)}
_FREE_FORMATS = {"int64", "float", "double"}
"""Formats that every number has that the grammar allows."""


@attrs.frozen
class Bound:
    """A bound of a number. `inclusive`: whether the number may be equal to it."""

    value: Decimal
    inclusive: bool


@attrs.frozen
class Bounds:
    """The lower and the upper bound. None: there is no bound that the digits of the grammar could reach."""

    low: Bound | None
    high: Bound | None


def number_expression(builder: GrammarBuilder, schema: Mapping[str, Any], path: str, *, whole: bool) -> Expression:
    """The numbers, or the `whole` numbers, that a schema allows.

    Raises:
        SchemaError: No number is between the bounds, a bound has too many digits, or a keyword cannot be served.
    """
    step = schema.get("multipleOf")
    if step is not None and not (whole and step == 1):
        raise SchemaError(f"{path}.multipleOf", "`multipleOf` cannot be served; leave it out and check the answer")
    bounds = _bounds(schema, path)
    if bounds.low is None and bounds.high is None:
        return json_text.integer(builder) if whole else json_text.number(builder)
    options = list(_whole(bounds) if whole else _with_fraction(bounds))
    if not options:
        raise SchemaError(path, f"no {'integer' if whole else 'number'} lies between the bounds")
    return choice(options)


def _bounds(schema: Mapping[str, Any], path: str) -> Bounds:
    lows: list[Bound] = []
    highs: list[Bound] = []
    for word, found, sign in (("inimum", lows, 1), ("aximum", highs, -1)):
        usual, exclusive = ("m" + word, "exclusive" + "M" + word)
        strict = schema.get(exclusive)
        if (value := schema.get(usual)) is not None:
            found.append(Bound(_decimal(value, f"{path}.{usual}") * sign, inclusive=strict is not True))
        if strict is not None and not isinstance(strict, bool):
            found.append(Bound(_decimal(strict, f"{path}.{exclusive}") * sign, inclusive=False))
        name = schema.get("format")
        if name in _FORMATS and (limit := _FORMATS[name][0 if sign > 0 else 1]) is not None:
            found.append(Bound(Decimal(limit * sign), inclusive=True))
    if (name := schema.get("format")) is not None and name not in _FORMATS.keys() | _FREE_FORMATS:
        raise SchemaError(f"{path}.format", f"the format {name!r} of a number cannot be served")
    low = max(lows, key=_strictness, default=None)
    high = max(highs, key=_strictness, default=None)
    if (low is not None and low.value >= _TOO_LARGE) or (high is not None and high.value >= _TOO_LARGE):
        raise SchemaError(path, f"a bound has more than {MAX_DIGITS} digits, and numbers have at most {MAX_DIGITS}")
    low = None if low is not None and low.value <= -_TOO_LARGE else low
    high = None if high is None or high.value <= -_TOO_LARGE else Bound(-high.value, high.inclusive)
    return Bounds(low, high)


def _strictness(bound: Bound) -> tuple[Decimal, bool]:
    return bound.value, not bound.inclusive


def _decimal(value: object, path: str) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value or abs(value) == float("inf"):  # noqa: PLR0124
        raise SchemaError(path, "has to be a number")
    if abs(value) >= _TOO_LARGE:
        return _TOO_LARGE if value > 0 else -_TOO_LARGE
    exact = Decimal(value) if isinstance(value, int) else Decimal(json.dumps(value))
    exponent = exact.as_tuple().exponent
    if isinstance(exponent, int) and -exponent > MAX_DIGITS:
        raise SchemaError(path, f"has more than {MAX_DIGITS} digits after its point")
    return exact


def _whole(bounds: Bounds) -> "list[Expression]":
    low, high = _lowest(bounds.low), None
    if bounds.high is not None:
        lowest_below = _lowest(Bound(-bounds.high.value, bounds.high.inclusive))
        high = None if lowest_below is None else -lowest_below
    options = []
    if high is None or high >= 0:
        options += _naturals(max(0, low or 0) if low is None or low < 0 else low, high)
    if low is None or low < 0:
        least = max(1, -high) if high is not None else 1
        options += [sequence("-", part) for part in _naturals(least, None if low is None else -low)]
    return options


def _lowest(bound: Bound | None) -> int | None:
    """The lowest integer that a lower bound allows."""
    if bound is None:
        return None
    below = int(bound.value.to_integral_value(ROUND_FLOOR))
    return below if bound.inclusive and below == bound.value else below + 1


def _naturals(low: int, high: int | None) -> list[Expression]:
    """The integers from `low`, at least 0, to `high`; without `high` those of up to `MAX_DIGITS` digits."""
    high = 10**MAX_DIGITS - 1 if high is None else min(high, 10**MAX_DIGITS - 1)
    found: list[Expression] = []
    while low <= high:
        last = min(high, 10 ** len(str(low)) - 1)
        found.append(_same_length(str(low), str(last)))
        low = last + 1
    return found


def _same_length(low: str, high: str) -> Expression:
    """The digit strings from `low` to `high`, which have the same length."""
    if not low:
        return EMPTY
    rest = len(low) - 1
    if low == "1" + "0" * rest and high == "9" * len(high):
        return sequence(_digits(1, 9), _free(rest))
    if low == "0" * len(low) and high == "9" * len(high):
        return _free(len(low))
    first, last = int(low[0]), int(high[0])
    if first == last:
        return sequence(low[0], _same_length(low[1:], high[1:]))
    options: list[Expression] = []
    if low[1:] != "0" * rest:
        options.append(sequence(low[0], _same_length(low[1:], "9" * rest)))
        first += 1
    tail: Expression | None = None
    if high[1:] != "9" * rest:
        tail = sequence(high[0], _same_length("0" * rest, high[1:]))
        last -= 1
    if first <= last:
        options.append(sequence(_digits(first, last), _free(rest)))
    return choice(options if tail is None else [*options, tail])


def _digits(first: int, last: int) -> CharSet:
    return CharSet.of([(0x30 + first, 0x30 + last)])


def _free(count: int) -> Expression:
    return EMPTY if not count else DIGIT if count == 1 else Repetition(DIGIT, count, count)


def _with_fraction(bounds: Bounds) -> list[Expression]:
    low, high = bounds.low, bounds.high
    options: list[Expression] = []
    zero = Bound(Decimal(0), inclusive=True)
    if high is None or high.value > 0 or (high.value == 0 and high.inclusive):
        options += _magnitudes(low if low is not None and low.value >= 0 else zero, high)
    if low is None or low.value < 0:
        least = zero if high is None or high.value > 0 else Bound(-high.value, high.inclusive)
        most = None if low is None else Bound(-low.value, low.inclusive)
        options += [sequence("-", part) for part in _magnitudes(least, most)]
    return options


def _magnitudes(low: Bound, high: Bound | None) -> list[Expression]:
    """The numbers without a sign from `low`, at least 0, to `high`."""
    bottom, digits = _split(low)
    floor = None if (digits, low.inclusive) == _REACHED else (digits, low.inclusive)
    if high is None:
        return [*_ending(bottom, _Fraction(floor, None)), *_with_any_fraction(bottom + 1, None)]
    top, digits = _split(high)
    ceiling = (digits, high.inclusive)
    if top <= bottom:
        return _ending(bottom, _Fraction(floor, ceiling)) if top == bottom else []
    return [
        *_ending(bottom, _Fraction(floor, None)),
        *_with_any_fraction(bottom + 1, top - 1),
        *_ending(top, _Fraction(None, ceiling)),
    ]


def _with_any_fraction(low: int, high: int | None) -> list[Expression]:
    whole = _naturals(low, high)
    fraction = optional(sequence(".", Repetition(DIGIT, 1, MAX_DIGITS)))
    return [sequence(choice(whole), fraction)] if whole else []


def _ending(whole: int, fraction: "_Fraction") -> list[Expression]:
    """The numbers with this part before the point, whose digits after the point are those of `fraction`."""
    options: list[Expression] = []
    if (digits := _fraction(fraction, MAX_DIGITS)) is not None:
        options.append(sequence(str(whole), ".", digits))
    if fraction.may_end():
        options.append(Literal(str(whole)))
    return options


def _split(bound: Bound) -> tuple[int, str]:
    """The part before the point, and the digits after the point without zeros at the end."""
    whole, _, fraction = f"{bound.value:f}".partition(".")
    return int(whole), fraction.rstrip("0")


Edge = tuple[str, bool]
"""The digits of a bound, and whether a number may be equal to the bound."""
_REACHED: Edge = ("", True)
"""The bound is among the allowed numbers, and the digits so far are equal to all of its digits."""
_EXCLUDED: Edge = ("", False)
"""The bound is not among the allowed numbers, and the digits so far are equal to all of its digits."""


@attrs.frozen
class _Fraction:
    """The digits that may follow the point. None: every digit is above the lower, or below the upper bound."""

    floor: Edge | None
    ceiling: Edge | None

    def may_end(self) -> bool:
        """Whether no more digits are needed."""
        above = self.floor is None or (not self.floor[0] and self.floor[1])
        below = self.ceiling is None or bool(self.ceiling[0]) or self.ceiling[1]
        return above and below

    def after(self, digit: int) -> "_Fraction | None":
        """The digits that may follow `digit`; None where `digit` itself is out of the bounds."""
        floor, ceiling = self.floor, self.ceiling
        if floor is not None:
            edge = int(floor[0][:1] or 0)
            if digit < edge:
                return None
            floor = None if digit > edge else (floor[0][1:], floor[1])
        if ceiling is not None:
            edge = int(ceiling[0][:1] or 0)
            if digit > edge:
                return None
            ceiling = None if digit < edge else (ceiling[0][1:], ceiling[1])
            if ceiling == _EXCLUDED:
                return None  # equal to an upper bound that is excluded, and more digits only make the number larger
        return _Fraction(None if floor == _REACHED else floor, ceiling)


def _fraction(fraction: _Fraction, left: int) -> Expression | None:
    """At least one and at most `left` digits; None where there are none that fit."""
    if not left:
        return None
    if fraction.floor is None and fraction.ceiling is None:
        return Repetition(DIGIT, 1, left)
    if fraction == _Fraction(None, _REACHED):
        return Repetition(Literal("0"), 1, left)
    if fraction == _Fraction(_EXCLUDED, None):
        return sequence(Repetition(Literal("0"), 0, left - 1), _digits(1, 9), Repetition(DIGIT, 0, left - 1))
    return _edged_fraction(fraction, left)


def _edged_fraction(fraction: _Fraction, left: int) -> Expression | None:
    """At least one and at most `left` digits, the first of which may be a digit of a bound."""
    alike: dict[_Fraction, list[str]] = {}
    for digit in range(10):
        if (after := fraction.after(digit)) is not None:
            alike.setdefault(after, []).append(str(digit))
    options = []
    for after, digits in alike.items():
        more = _fraction(after, left - 1)
        if more is not None or after.may_end():
            rest = EMPTY if more is None else optional(more) if after.may_end() else more
            options.append(sequence(CharSet.chars("".join(digits)), rest))
    return choice(options) if options else None
