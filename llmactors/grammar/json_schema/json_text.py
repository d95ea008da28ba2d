"""The text of JSON as grammar: strings, numbers, white space, and values of any kind. Pure.

White space is bounded. Small models that may write any amount of it write it until their answer is full. Between two
parts there may be nothing, one space, or a line break and up to 20 spaces or tabs, as models like to indent. After a
colon there may be one space. A text has no white space before its first and after its last character, so that the
grammar is complete with the last brace.
"""

import json

from llmactors.grammar.characters import LAST, CharSet
from llmactors.grammar.expressions import Expression, Literal, Repetition, choice, optional, sequence
from llmactors.grammar.json_schema.builder import GrammarBuilder
from llmactors.grammar.json_schema.limits import ANY_DEPTH

CHARACTERS = CharSet.of([(0, 0xD7FF), (0xE000, LAST)])
"""The characters that a string may have. A half of a surrogate pair is none."""
RAW = CHARACTERS - CharSet.of([(0, 0x1F)]) - CharSet.chars('"\\')
"""The characters that stand for themselves in a string."""
_SHORT_ESCAPES = {'"': '"', "\\": "\\", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
DIGIT = CharSet.of([(0x30, 0x39)])
_HEX = CharSet.chars("0123456789abcdefABCDEF")
MAX_DIGITS = 16
"""How many digits an integer, and how many the fraction of a number has at most. More digits are noise, and a model
that may write any number of them does not always stop."""


def encoded(text: str) -> str:
    """The text as it stands inside of the quotes of a JSON string, in the one way in which this package writes it."""
    return json.dumps(text, ensure_ascii=False)[1:-1]


def json_chars(chars: CharSet) -> list[Expression]:
    """The characters as they stand in a JSON string, each in the way in which `encoded` writes it."""
    found: list[Expression] = [raw] if (raw := chars & RAW) else []
    short = [code for code, char in _SHORT_ESCAPES.items() if char in chars]
    if short:
        found.append(sequence("\\", CharSet.chars("".join(short))))
    for high in "01":
        digits = [low for low in "0123456789abcdef" if chr(int(high + low, 16)) in chars]
        long = [low for low in digits if chr(int(high + low, 16)) not in _SHORT_ESCAPES.values()]
        if long:
            found.append(sequence("\\u00" + high, CharSet.chars("".join(long))))
    return found


def white_space(builder: GrammarBuilder) -> Expression:
    """What may stand between two parts."""
    indent = sequence("\n", Repetition(CharSet.chars(" \t"), 0, 20))
    return builder.shared("space", lambda: optional(choice((Literal(" "), indent))))


def colon() -> Expression:
    """What stands between a key and its value."""
    return sequence(":", optional(Literal(" ")))


def comma(builder: GrammarBuilder) -> Expression:
    """What stands between two items."""
    return sequence(",", white_space(builder))


def char(builder: GrammarBuilder) -> Expression:
    """One character of a string, in any way that JSON has for writing it."""
    return builder.shared("char", lambda: choice((RAW, sequence("\\", builder.shared("escape", _escape)))))


def string(builder: GrammarBuilder) -> Expression:
    """Any string."""
    return builder.shared("string", lambda: sequence('"', Repetition(char(builder), 0, None), '"'))


def _escape() -> Expression:
    """What follows a backslash. The halves of a surrogate pair come together."""
    plain = sequence(CharSet.chars("0123456789abcABCefEF"), Repetition(_HEX, 3, 3))
    low = sequence(CharSet.chars("dD"), CharSet.chars("01234567"), Repetition(_HEX, 2, 2))
    first = sequence(CharSet.chars("dD"), CharSet.chars("89abAB"), Repetition(_HEX, 2, 2))
    second = sequence("\\u", CharSet.chars("dD"), CharSet.chars("cdefCDEF"), Repetition(_HEX, 2, 2))
    return choice((CharSet.chars('"\\/bfnrt'), sequence("u", choice((plain, low, sequence(first, second))))))


def integer(builder: GrammarBuilder) -> Expression:
    """Any integer of up to `MAX_DIGITS` digits."""
    digits = sequence(DIGIT - CharSet.chars("0"), Repetition(DIGIT, 0, MAX_DIGITS - 1))
    return builder.shared("integer", lambda: sequence(optional(Literal("-")), choice((Literal("0"), digits))))


def number(builder: GrammarBuilder) -> Expression:
    """Any number, with up to `MAX_DIGITS` digits before and after the point, and an exponent of up to two digits."""
    fraction = sequence(".", Repetition(DIGIT, 1, MAX_DIGITS))
    exponent = sequence(CharSet.chars("eE"), optional(CharSet.chars("+-")), Repetition(DIGIT, 1, 2))
    return builder.shared("number", lambda: sequence(integer(builder), optional(fraction), optional(exponent)))


def boolean() -> Expression:
    """`true` or `false`."""
    return choice((Literal("true"), Literal("false")))


def listed(builder: GrammarBuilder, opening: str, items: Expression | None, closing: str) -> Expression:
    """The items in brackets, with white space. None: there are no items."""
    space = white_space(builder)
    return sequence(opening, space, *(() if items is None else (items, space)), closing)


def any_value(builder: GrammarBuilder, depth: int = ANY_DEPTH) -> Expression:
    """Any value, with arrays and objects up to `depth` deep: a model that may nest without a bound may never end."""

    def make() -> Expression:
        scalars = (string(builder), number(builder), boolean(), Literal("null"))
        nested = (any_object(builder, depth), any_array(builder, depth)) if depth else ()
        return choice((*scalars, *nested))

    return builder.shared(f"value-{depth}", make)


def any_object(builder: GrammarBuilder, depth: int = ANY_DEPTH) -> Expression:
    """Any object whose values are nested up to `depth` - 1 deep."""

    def make() -> Expression:
        pair = sequence(string(builder), colon(), any_value(builder, depth - 1))
        pairs = sequence(pair, Repetition(sequence(comma(builder), pair), 0, None))
        space = white_space(builder)
        return sequence("{", space, optional(sequence(pairs, space)), "}")

    return builder.shared(f"object-{depth}", make)


def any_array(builder: GrammarBuilder, depth: int = ANY_DEPTH) -> Expression:
    """Any array whose items are nested up to `depth` - 1 deep."""

    def make() -> Expression:
        item = any_value(builder, depth - 1)
        space = white_space(builder)
        items = sequence(item, Repetition(sequence(comma(builder), item), 0, None))
        return sequence("[", space, optional(sequence(items, space)), "]")

    return builder.shared(f"array-{depth}", make)
