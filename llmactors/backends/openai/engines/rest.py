"""What is left of a constraint behind a text, for servers whose grammars hold from the first character on. Pure.

A constraint with a trigger leaves the text before the trigger free. vLLM and SGLang have no grammar that begins at a
trigger, so they are told nothing of such a constraint, neither at the beginning of an answer nor at a takeover: their
own chat routes follow a model that may choose its tools in the same way.
"""

from llmactors.backends.llama.constrained import rest_of_constraint
from llmactors.messages import Constraint


def rest_of_grammar(constraint: Constraint, text: str) -> tuple[str, bool]:
    """The grammar that is left behind a text, empty for a constraint with a trigger; and whether nothing may follow.

    Raises `Interrupted` where no valid rest is known.
    """
    if constraint.trigger:
        return "", False
    if not text:
        return constraint.grammar, False
    rest = rest_of_constraint(constraint, text.encode("utf-8", "replace"))
    return rest.fields["grammar"], rest.is_complete
