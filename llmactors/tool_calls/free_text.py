"""Grammars of free text: all texts but some. Pure."""

from collections.abc import Iterable, Mapping

from llmactors.grammar.characters import ANY, CharSet
from llmactors.grammar.expressions import ROOT, Expression, Reference, Repetition, choice, optional, sequence

ANYTHING = Repetition(ANY, 0, None)


def not_beginning(prefixes: Iterable[str]) -> Expression:
    """All texts that begin with none of the prefixes, of which none is empty."""
    heads: dict[str, list[str]] = {}
    for prefix in prefixes:
        heads.setdefault(prefix[0], []).append(prefix[1:])
    ways = [sequence(ANY - CharSet.chars("".join(heads)), ANYTHING)]
    ways += [sequence(head, not_beginning(rests)) for head, rests in heads.items() if all(rests)]
    return optional(choice(ways))


def up_to(tag: str) -> Mapping[str, Expression]:
    """The rules of a grammar of all texts that end with `tag` and do not contain the tag before.

    The rules are the states of the automaton of Knuth, Morris and Pratt: rule number k has seen k characters of the
    tag.
    """
    names = [ROOT, *(f"seen-{seen}" for seen in range(1, len(tag)))]
    rules: dict[str, Expression] = {}
    for seen, rule in enumerate(names):
        following: dict[int, str] = {}
        for char in dict.fromkeys(tag):
            after = _longest_beginning(tag, tag[:seen] + char)
            following[after] = following.get(after, "") + char
        ways = [
            sequence(CharSet.chars(chars), *([] if after == len(tag) else [Reference(names[after])]))
            for after, chars in following.items()
            if after
        ]
        restart = ANY - CharSet.chars("".join(chars for after, chars in following.items() if after))
        rules[rule] = choice([*ways, sequence(restart, Reference(ROOT))])
    return rules


def _longest_beginning(tag: str, text: str) -> int:
    """The length of the longest end of `text` that is a beginning of `tag`."""
    return next(length for length in range(len(text), -1, -1) if tag.startswith(text[len(text) - length :]))
