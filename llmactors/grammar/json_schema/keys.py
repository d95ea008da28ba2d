"""Keys of an object other than its declared properties, as grammar. Pure.

An additional property must not have the name of a declared one, whose value has a schema of its own. The grammar of the
other names follows the tree of the declared names: a key is another one as soon as it leaves the tree. For that each
character has one way to be written.
"""

from collections.abc import Sequence
from functools import lru_cache

from llmactors.grammar.characters import CharSet
from llmactors.grammar.errors import SchemaError
from llmactors.grammar.expressions import EMPTY, Expression, Repetition, choice, sequence
from llmactors.grammar.json_schema.builder import GrammarBuilder
from llmactors.grammar.json_schema.json_text import CHARACTERS, encoded, json_chars
from llmactors.grammar.json_schema.limits import MAX_KEY_CHARS

Tree = dict[str, "Tree"]
_END = ""
"""Marks the places in a tree where a name ends."""
_INLINE = 8
"""How many places of a tree stand in one rule."""
_RARE = CHARACTERS - (CharSet.of([(0x20, 0x7E)]) - CharSet.chars('"\\'))
"""The characters outside of ASCII, and those that a string has to escape."""


def other_key(builder: GrammarBuilder, names: Sequence[str], path: str) -> Expression:
    """Any key but `names`, with its quotes. Raises `SchemaError` where the names are too long."""
    if sum(map(len, names)) > MAX_KEY_CHARS:
        raise SchemaError(
            f"{path}.additionalProperties",
            f"other properties cannot be served beside properties whose names have more than {MAX_KEY_CHARS} characters"
            " together; set `additionalProperties` to false",
        )
    tree: Tree = {}
    for name in names:
        node = tree
        for char in name:
            node = node.setdefault(char, {})
        node[_END] = {}
    return sequence('"', _outside(builder, tree, path), '"')


def _outside(builder: GrammarBuilder, root: Tree, path: str) -> Expression:
    """The texts that are not in the tree. Without recursion, as names may be long."""
    rest = builder.shared("key-rest", lambda: Repetition(choice(json_chars(CHARACTERS)), 0, None))
    order = [root]
    for node in order:
        order += [child for char, child in node.items() if char != _END]
    made: dict[int, tuple[Expression, int]] = {}
    for node in reversed(order):
        options, nesting = [], 0
        for char, child in node.items():
            if char != _END:
                expression, inside = made.pop(id(child))
                options.append(sequence(encoded(char), expression))
                nesting = max(nesting, inside)
        found = choice([*options, sequence(_leaving(builder, node), rest), *([] if _END in node else [EMPTY])])
        if nesting == _INLINE:
            found, nesting = builder.named("key", found, path), -1
        made[id(node)] = (found, nesting + 1)
    return made[id(root)][0]


def _leaving(builder: GrammarBuilder, node: Tree) -> Expression:
    """The characters with which a text leaves the tree at a node."""
    common, rare = _leaving_chars("".join(char for char in node if char != _END))
    if rare is not None:
        return rare
    return choice((common, builder.shared("key-rare", lambda: choice(json_chars(_RARE)))))


@lru_cache(maxsize=1024)
def _leaving_chars(staying: str) -> tuple[CharSet, Expression | None]:
    """The common characters but `staying`; and all others too, where one that stays is rare."""
    inside = CharSet.chars(staying)
    rare = choice(json_chars(CHARACTERS - inside)) if inside & _RARE else None
    return CHARACTERS - _RARE - inside, rare
