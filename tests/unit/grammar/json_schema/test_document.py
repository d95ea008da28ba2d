"""The document of served schemas names every keyword, format and limit."""

import re
from pathlib import Path

from llmactors.grammar.json_schema import convert, formats, keywords, limits
from llmactors.grammar.limits import MAX_TEXT

TEXT = (Path(convert.__file__).parent / "SCHEMAS.md").read_text("utf-8")
QUOTED = set(re.findall(r"`([^`\s]+)`", TEXT))


def test_document_names_every_keyword_that_is_served() -> None:
    assert keywords.GENERAL.union(*keywords.BY_TYPE.values()) <= QUOTED


def test_document_names_every_format() -> None:
    assert formats.PATTERNS.keys() | formats.ANY_STRING <= QUOTED


def test_document_has_the_limits_of_the_code() -> None:
    numbers = {int(number.replace(",", "")) for number in re.findall(r"\d[\d,]*", TEXT)}
    values = {value for name, value in vars(limits).items() if name.startswith("MAX_")}
    hidden = {limits.MAX_BRANCHES, limits.MAX_KEY_CHARS, limits.MAX_PATTERN, limits.MAX_COSTLY_PATTERNS}
    assert values - hidden | {MAX_TEXT, limits.ANY_DEPTH} <= numbers
