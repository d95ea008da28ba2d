"""What one upstream can do with the beginning of an answer. Asked for once, when it is needed first.

No request of a user pays for the questions: they are requests of this node, and none of them makes more than one token.
"""

from typing import Any

import attrs
import msgspec

from llmactors.backends.openai.engines import TokenServer
from llmactors.backends.openai.engines.engine import Calls, decode
from llmactors.backends.openai.engines.vocabulary import fingerprint
from llmactors.backends.openai.faults import FaultKind, UpstreamFault
from llmactors.backends.openai.request import PREFILL
from llmactors.messages import GenerateRequest

_CANNOT = {FaultKind.REQUEST, FaultKind.CONTEXT, FaultKind.REFUSED, FaultKind.MODEL, FaultKind.KEY}
"""The faults with which a server, or a proxy before it, refuses a route or a field that it does not know."""
_GREETING = GenerateRequest("", "", "Hello")
_QUESTION = [{"role": "user", "content": "Count from 1 to 9."}, {"role": "assistant", "content": "1, 2, 3, 4"}]


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0


class _Answer(msgspec.Struct):
    usage: _Usage | None = None


@attrs.define
class Abilities:
    """What is known of one upstream. Call `forget` after a fault: another server may stand there now."""

    _vocabulary: str | None = attrs.field(default=None, init=False)
    _splits_reasoning: bool = attrs.field(default=False, init=False)
    _renders_chats: bool = attrs.field(default=False, init=False)
    _continues: bool | None = attrs.field(default=None, init=False)

    @property
    def splits_reasoning(self) -> bool:
        """Whether the chat route takes reasoning out of the text. Known after `vocabulary`."""
        return self._splits_reasoning

    @property
    def renders_chats(self) -> bool:
        """Whether the upstream tells the ids of a chat, not only those of a text. Known after `vocabulary`."""
        return self._renders_chats

    def forget(self) -> None:
        """Has everything asked for again."""
        self._vocabulary = self._continues = None

    def refuse_text(self) -> None:
        """Records that the upstream has refused to continue a text."""
        self._continues = False

    async def vocabulary(self, engine: TokenServer, calls: Calls, model: str) -> str:
        """The fingerprint of the upstream's vocabulary; empty where it does not tell. Raises `UpstreamFault`."""
        if self._vocabulary is None:
            try:
                self._splits_reasoning = await engine.splits_reasoning(calls)
                found = await fingerprint(engine, calls, model)
                self._renders_chats = await self._learn_chats(engine, calls, model)
                self._vocabulary = found
            except UpstreamFault as fault:
                if fault.kind not in _CANNOT:
                    raise
                self._vocabulary = ""
        return self._vocabulary

    @staticmethod
    async def _learn_chats(engine: TokenServer, calls: Calls, model: str) -> bool:
        try:
            return bool(await engine.prompt_ids(calls, model, _GREETING))
        except UpstreamFault as fault:
            if fault.kind not in _CANNOT:
                raise
            return False

    async def continues_text(self, calls: Calls, model: str, tokens_field: str) -> bool:
        """Whether the chat route continues an assistant's message. Raises `UpstreamFault`.

        Two requests differ only in the fields that ask for a continuation. A server that knows the fields puts no end
        behind the message and no beginning of another one, so that its prompt is shorter.
        """
        if self._continues is None:
            body = {"model": model, "messages": _QUESTION, "temperature": 0, tokens_field: 1}
            try:
                continued = await self._prompt_tokens(calls, body | PREFILL)
                ended = await self._prompt_tokens(calls, body)
                self._continues = 0 < continued < ended
            except UpstreamFault as fault:
                if fault.kind not in _CANNOT:
                    raise
                self._continues = False
        return self._continues

    @staticmethod
    async def _prompt_tokens(calls: Calls, body: dict[str, Any]) -> int:
        usage = decode(await calls.fetch("chat/completions", body), _Answer).usage
        return 0 if usage is None else usage.prompt_tokens
