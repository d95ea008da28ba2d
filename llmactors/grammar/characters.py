"""Sets of characters, as ranges of code points. Pure."""

from collections.abc import Iterable
from typing import Self

import attrs

LAST = 0x10FFFF
"""The highest code point of Unicode."""
Range = tuple[int, int]


@attrs.frozen(cache_hash=True)
class CharSet:
    """A set of characters. Two sets with the same characters are equal."""

    ranges: tuple[Range, ...]
    """The first and the last code point of each range, in ascending order. The ranges neither touch nor overlap."""

    @classmethod
    def of(cls, ranges: Iterable[Range]) -> Self:
        """The set with the characters of all `ranges`, which may overlap and have any order."""
        merged: list[Range] = []
        for first, last in sorted(ranges):
            if merged and first <= merged[-1][1] + 1:
                merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
            else:
                merged.append((first, last))
        return cls(tuple(merged))

    @classmethod
    def chars(cls, text: str) -> Self:
        """The set of the characters in `text`."""
        return cls.of((ord(char), ord(char)) for char in text)

    def __contains__(self, char: str) -> bool:
        code = ord(char)
        return any(first <= code <= last for first, last in self.ranges)

    def __bool__(self) -> bool:
        return bool(self.ranges)

    def __or__(self, other: Self) -> Self:
        return self.of((*self.ranges, *other.ranges))

    def __invert__(self) -> Self:
        gaps, start = [], 0
        for first, last in self.ranges:
            if first > start:
                gaps.append((start, first - 1))
            start = last + 1
        if start <= LAST:
            gaps.append((start, LAST))
        return type(self)(tuple(gaps))

    def __and__(self, other: Self) -> Self:
        return ~(~self | ~other)

    def __sub__(self, other: Self) -> Self:
        return self & ~other

    @property
    def size(self) -> int:
        """How many characters are in the set."""
        return sum(last - first + 1 for first, last in self.ranges)

    def at(self, place: int) -> str:
        """The character at `place` in the set, counted from 0. Raises `IndexError` where there are fewer characters."""
        for first, last in self.ranges:
            if place <= last - first:
                return chr(first + place)
            place -= last - first + 1
        raise IndexError("the set has fewer characters")


ANY = CharSet(((0, LAST),))
"""All characters: `.` in a grammar."""
