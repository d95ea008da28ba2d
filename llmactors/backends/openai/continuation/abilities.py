"""What one upstream can do with the beginning of an answer. Asked for once, when it is needed first.

Requests that need an answer at the same time share one question, and its fault too. No request of a user pays for the
questions: they are requests of this node, and none of them makes more than one token.
"""

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import msgspec
import trio

from llmactors.backends.openai.engines import TokenServer
from llmactors.backends.openai.engines.engine import Calls, decode
from llmactors.backends.openai.engines.vocabulary import fingerprint
from llmactors.backends.openai.requests.body import PREFILL
from llmactors.backends.openai.routing.faults import FaultKind, UpstreamFault
from llmactors.messages import GenerateRequest

_CANNOT = {
    FaultKind.REQUEST,
    FaultKind.CONTEXT,
    FaultKind.REFUSED,
    FaultKind.MODEL,
    FaultKind.KEY,
    FaultKind.MALFORMED,
}
"""The faults with which a server, or a proxy before it, answers a route or a field that it does not know."""
_ASKED_AGAIN_AFTER_S = 3600.0
"""After how long an upstream that continues no text may be asked again."""
_IDS_ASKED_AGAIN_AFTER_S = 60.0
"""After how long an upstream that tells no ids is asked again: a proxy may have answered while the server started."""
_UNCHECKED_S = 5.0
"""After how long without a request the vocabulary is checked again: another model may have been loaded meanwhile."""
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
    _must_check: bool = attrs.field(default=False, init=False)
    """Whether the vocabulary may be another one, because no request was sent for a while."""
    _used_at: float = attrs.field(default=-math.inf, init=False)
    """When a request last asked for the vocabulary, on Trio's clock."""
    _ids_asked_again_at: float = attrs.field(default=0.0, init=False)
    """Until when a server that tells no ids is not asked again, on Trio's clock."""
    _splits_reasoning: bool = attrs.field(default=False, init=False)
    _renders_chats: bool = attrs.field(default=False, init=False)
    _continues: bool | None = attrs.field(default=None, init=False)
    _asked_again_at: float = attrs.field(default=0.0, init=False)
    """Until when a server that continues no text is not asked again, on Trio's clock."""
    _asking: trio.Lock = attrs.field(factory=trio.Lock, init=False)
    _fault: UpstreamFault | None = attrs.field(default=None, init=False)
    """The fault of a question for whose answer other requests wait."""

    @property
    def splits_reasoning(self) -> bool:
        """Whether the chat route takes reasoning out of the text. Known after `vocabulary`."""
        return self._splits_reasoning

    @property
    def renders_chats(self) -> bool:
        """Whether the upstream tells the ids of a chat, not only those of a text. Known after `vocabulary`."""
        return self._renders_chats

    def forget(self) -> None:
        """Has everything asked for again. An upstream that continues no text is asked once an hour at most.

        So a vendor that breaks off many answers is not asked after each of them. An answer that might have gone on at
        a new server ends with `INTERRUPTED` in the meantime.
        """
        self._vocabulary = None
        if self._continues or trio.current_time() >= self._asked_again_at:
            self._continues = None

    def refuse_text(self) -> None:
        """Records that the upstream has refused to continue a text."""
        self._learn_continues(found=False)

    def _learn_continues(self, *, found: bool) -> None:
        self._continues = found
        self._asked_again_at = trio.current_time() + _ASKED_AGAIN_AFTER_S

    @asynccontextmanager
    async def _one_question(self) -> AsyncIterator[None]:
        """Lets one request ask at a time. Raises the `UpstreamFault` of the question that was asked meanwhile."""
        before = self._fault
        async with self._asking:
            shared, others_wait = self._fault, self._asking.statistics().tasks_waiting > 0
            if shared is not before and shared is not None:
                self._fault = shared if others_wait else None
                raise UpstreamFault(shared.kind, shared.error, hold_s=shared.hold_s, said=shared.said)
            try:
                yield
            except UpstreamFault as fault:
                self._fault = fault if self._asking.statistics().tasks_waiting else None
                raise

    async def vocabulary(self, engine: TokenServer, calls: Calls, model: str) -> str:
        """The fingerprint of the upstream's vocabulary; empty where it does not tell. Raises `UpstreamFault`.

        While requests follow each other, a restart of the server shows as a fault of one of them. After a pause, the
        server is asked for the fingerprint again, because nothing shows that the server is the same one.
        """
        now = trio.current_time()
        self._must_check = self._must_check or now >= self._used_at + _UNCHECKED_S
        self._used_at = now
        if (known := self._known_vocabulary()) is None:
            async with self._one_question():
                if (known := self._known_vocabulary()) is None:
                    known = await self._ask_vocabulary(engine, calls, model)
                    self._ids_asked_again_at = trio.current_time() + _IDS_ASKED_AGAIN_AFTER_S
                    self._vocabulary, self._must_check = known, False
        return known

    def _known_vocabulary(self) -> str | None:
        if self._vocabulary == "":
            return None if trio.current_time() >= self._ids_asked_again_at else ""
        return None if self._must_check else self._vocabulary

    async def _ask_vocabulary(self, engine: TokenServer, calls: Calls, model: str) -> str:
        """Asks a known server for the fingerprint only. Another fingerprint is that of another server."""
        if self._vocabulary:
            try:
                if await fingerprint(engine, calls, model) == self._vocabulary:
                    return self._vocabulary
            except UpstreamFault as fault:
                if fault.kind not in _CANNOT:
                    raise
            self.forget()
        return await self._learn_vocabulary(engine, calls, model)

    async def _learn_vocabulary(self, engine: TokenServer, calls: Calls, model: str) -> str:
        try:
            self._splits_reasoning = await engine.splits_reasoning(calls)
            found = await fingerprint(engine, calls, model)
            self._renders_chats = await self._learn_chats(engine, calls, model)
        except UpstreamFault as fault:
            if fault.kind not in _CANNOT:
                raise
            return ""
        return found

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
        if (known := self._continues) is None:
            async with self._one_question():
                if (known := self._continues) is None:
                    known = await self._try_to_continue(calls, model, tokens_field)
                    self._learn_continues(found=known)
        return known

    async def _try_to_continue(self, calls: Calls, model: str, tokens_field: str) -> bool:
        body = {"model": model, "messages": _QUESTION, "temperature": 0, tokens_field: 1}
        try:
            continued = await self._prompt_tokens(calls, body | PREFILL)
            ended = await self._prompt_tokens(calls, body)
        except UpstreamFault as fault:
            if fault.kind not in _CANNOT:
                raise
            return False
        return 0 < continued < ended

    @staticmethod
    async def _prompt_tokens(calls: Calls, body: dict[str, Any]) -> int:
        usage = decode(await calls.fetch("chat/completions", body), _Answer).usage
        return 0 if usage is None else usage.prompt_tokens
