"""Makes the constraints of requests, without a long hold on the event loop."""

import hashlib
from collections import OrderedDict
from functools import partial

import trio

from llmactors.backends.base import Capabilities
from llmactors.gateway.answer_rules import AnswerRules, constraint_of
from llmactors.messages import Constraint

_KEPT = 256
"""How many constraints are kept: agents send the same tools again and again."""


class RuleFixer:
    """Converts rules to constraints in a thread, one after the other."""

    def __init__(self) -> None:
        self._known: OrderedDict[bytes, Constraint | None] = OrderedDict()
        self._turn = trio.CapacityLimiter(1)

    def __repr__(self) -> str:
        return f"<RuleFixer with {len(self._known)} constraints>"

    async def constraint(self, rules: AnswerRules, capabilities: Capabilities) -> Constraint | None:
        """The constraint of the rules; None if everything is free. Raises `InvalidRequest`, which names the field."""
        encoded = rules.encoded
        model = f"{capabilities.tool_format} {capabilities.reasoning_tags} {'constraint' in capabilities.honours}"
        key = hashlib.sha256(model.encode() + b"\0" + encoded).digest()
        if key in self._known:
            self._known.move_to_end(key)
            return self._known[key]
        convert = partial(constraint_of, rules, capabilities)
        found = await trio.to_thread.run_sync(convert, limiter=self._turn, abandon_on_cancel=True)
        self._known[key] = found
        if len(self._known) > _KEPT:
            self._known.popitem(last=False)
        return found
