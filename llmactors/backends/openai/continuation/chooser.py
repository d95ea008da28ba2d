"""Decides how one upstream is asked for an answer or its rest, and learns what the upstream can do."""

from collections.abc import Sequence

import attrs

from llmactors.backends.openai.continuation.abilities import Abilities
from llmactors.backends.openai.continuation.strategy import (
    ContinuationStrategy,
    LoggedAnswer,
    begin,
    go_on,
    has_images,
    needs_ids,
)
from llmactors.backends.openai.engines import ENGINES
from llmactors.backends.openai.requests.body import is_raw
from llmactors.backends.openai.requests.opening import (
    Asked,
    Opening,
    ids_opening,
    made_again,
    plain_opening,
    text_opening,
)
from llmactors.backends.openai.requests.upstream import Upstream
from llmactors.backends.openai.routing.faults import CircuitEffect, FaultKind, UpstreamFault
from llmactors.backends.openai.settings import OpenAISettings
from llmactors.errors import BackendFailed, Interrupted, InvalidRequest, LlmactorsError
from llmactors.ledger.request_size import RequestSize
from llmactors.messages import GenerateRequest, TokenDelta

_REFUSALS = {FaultKind.REQUEST, FaultKind.CONTEXT, FaultKind.REFUSED}


@attrs.define(eq=False)
class AnswerSoFar:
    """The answer that is in the log or about to be written there, and what prevents its rest."""

    request: GenerateRequest
    deltas: list[TokenDelta]
    first_error: LlmactorsError | None = None
    """The first error since the last token."""
    refused: set[tuple[int, ContinuationStrategy]] = attrs.field(factory=set)
    """The strategies by which an upstream has refused to go on, by the place of the upstream."""
    begins_now: bool = False
    """Whether the grammar of a constraint with a trigger has to hold at once."""

    def add(self, deltas: Sequence[TokenDelta]) -> None:
        """Adds tokens."""
        if deltas:
            self.deltas += deltas
            self.first_error = None

    @property
    def prompt_tokens(self) -> int:
        """The length of the prompt, estimated where the log does not have it."""
        prompt = LoggedAnswer.of(self.deltas[:1]).prompt
        ids = () if prompt is None else prompt.ids
        return len(ids) or RequestSize.of(self.request).prompt_tokens

    @property
    def error(self) -> Interrupted:
        """The error for a client whose answer cannot go on."""
        if self.first_error is None:
            return Interrupted("the upstream was lost, and an answer of this kind cannot be continued")
        if isinstance(self.first_error, Interrupted):
            return self.first_error
        return Interrupted(f"{self.first_error.message}; another upstream cannot continue the answer")


class StrategyChooser:
    """Chooses how the upstreams of one model are asked."""

    def __init__(self, settings: OpenAISettings, upstreams: Sequence[Upstream]) -> None:
        self._settings = settings
        self._engine = ENGINES.get(settings.engine)
        self._upstreams = tuple(upstreams)
        self._abilities = [Abilities() for _ in upstreams]

    def __repr__(self) -> str:
        return f"<StrategyChooser for {len(self._upstreams)} upstreams with engine={self._settings.engine}>"

    async def choose(self, place: int, answer: AnswerSoFar) -> ContinuationStrategy:
        """The strategy by which the upstream at `place` is asked. Raises `UpstreamFault` where there is none."""
        request = answer.request
        if has_images(request) and needs_ids(request):
            text = "an image does not go together with tools, grammars or reasoning that this node reads"
            raise UpstreamFault(FaultKind.REQUEST, InvalidRequest(text))
        vocabulary = await self._vocabulary(place)
        if not answer.deltas:
            if needs_ids(request) and not self._takes_ids(place, request, vocabulary):
                text = "the upstream tells no token ids, which this request needs"
                raise UpstreamFault(FaultKind.UNFIT, BackendFailed(text))
            return self._begin(place, request, vocabulary)
        logged = LoggedAnswer.of(answer.deltas)
        for strategy in go_on(request, logged, has_engine=self._engine is not None):
            if (place, strategy) not in answer.refused and await self._can(
                place, strategy, request, logged, vocabulary
            ):
                return strategy
        raise UpstreamFault(FaultKind.UNFIT, answer.error)

    async def opening(self, place: int, strategy: ContinuationStrategy, answer: AnswerSoFar) -> Opening | None:
        """What is sent; None where the answer is complete, and only its end is missing.

        Raises:
            UpstreamFault: The upstream failed at a question that comes before the request.
            Interrupted: No valid rest of the answer's constraint is known.
        """
        request, logged = answer.request, LoggedAnswer.of(answer.deltas)
        vocabulary = await self._vocabulary(place)
        asked = Asked(self._upstreams[place], self._settings.upstreams[place].model, self._engine, vocabulary)
        if strategy is ContinuationStrategy.TEXT:
            return text_opening(request, asked, self._settings, logged)
        if strategy is not ContinuationStrategy.ANEW:
            return await self._from_ids_or_plain(strategy, asked, answer, logged)
        first = self._begin(place, request, vocabulary)
        # The log never mixes the ids of two vocabularies, and no vocabulary reads the ids of another one.
        prompt = logged.prompt if logged.is_of(vocabulary) else None
        nothing = attrs.evolve(LoggedAnswer.of(()), prompt=prompt)
        opening = await self._from_ids_or_plain(first, asked, answer, nothing)
        sends_ids = first is not ContinuationStrategy.PLAIN and prompt is not None
        return None if opening is None else made_again(opening, request, asked, logged, sends_ids=sends_ids)

    def judge(
        self, place: int, strategy: ContinuationStrategy | None, answer: AnswerSoFar, fault: UpstreamFault
    ) -> UpstreamFault:
        """Records a fault. Returns the fault as it counts: an upstream that refuses to go on is not at fault."""
        if self._engine is not None and self._engine.overshot(fault.said) and not answer.begins_now:
            answer.begins_now = True
            fault = UpstreamFault(FaultKind.MALFORMED, fault.error)
        if fault.kind.effect in {CircuitEffect.COUNTS, CircuitEffect.OPENS}:
            self._abilities[place].forget()
        if (
            answer.deltas
            and strategy is not None
            and fault.kind in _REFUSALS
            and not isinstance(fault.error, Interrupted)
        ):
            answer.refused.add((place, strategy))
            if strategy is ContinuationStrategy.TEXT and not is_raw(answer.request):
                self._abilities[place].refuse_text()
            fault = UpstreamFault(FaultKind.REFUSED, fault.error)
        answer.first_error = answer.first_error or fault.error
        return fault

    async def _vocabulary(self, place: int) -> str:
        if self._engine is None:
            return ""
        model = self._settings.upstreams[place].model
        return await self._abilities[place].vocabulary(self._engine, self._upstreams[place], model)

    def _takes_ids(self, place: int, request: GenerateRequest, vocabulary: str) -> bool:
        return bool(vocabulary) and (is_raw(request) or self._abilities[place].renders_chats)

    def _begin(self, place: int, request: GenerateRequest, vocabulary: str) -> ContinuationStrategy:
        return begin(
            request,
            takes_ids=self._takes_ids(place, request, vocabulary),
            sends_ids=self._engine is not None and self._engine.sends_ids,
            splits_reasoning=self._abilities[place].splits_reasoning,
        )

    async def _can(
        self,
        place: int,
        strategy: ContinuationStrategy,
        request: GenerateRequest,
        logged: LoggedAnswer,
        vocabulary: str,
    ) -> bool:
        if strategy is ContinuationStrategy.IDS:
            return logged.is_of(vocabulary)
        if strategy is not ContinuationStrategy.TEXT:
            return True
        continues = self._settings.continues
        if self._engine is not None or continues == "chat" or is_raw(request):
            return self._engine is not None or continues in {"chat", "raw"}
        model, field = self._settings.upstreams[place].model, self._settings.tokens_field
        return continues == "probe" and await self._abilities[place].continues_text(
            self._upstreams[place], model, field
        )

    async def _from_ids_or_plain(
        self, strategy: ContinuationStrategy, asked: Asked, answer: AnswerSoFar, logged: LoggedAnswer
    ) -> Opening | None:
        if strategy is ContinuationStrategy.IDS and asked.engine is not None:
            return await ids_opening(answer.request, asked, asked.engine, logged, begins_now=answer.begins_now)
        return plain_opening(answer.request, asked, self._settings, sends_ids=strategy is ContinuationStrategy.IDS_BACK)
