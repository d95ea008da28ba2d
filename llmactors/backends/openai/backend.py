"""Remote servers as a backend: asks upstreams, as `routing` decides, until one has given the whole answer.

Before the first token, another try follows any fault that may pass, or that another upstream may not have. After the
first token, another upstream goes on with the answer, or the same one does, by the best strategy that `continuation`
finds. An answer that no upstream can go on with ends with `INTERRUPTED`.

An upstream is no actor. Its lasting state is a circuit and some counts, which no crash can corrupt and which outlive
the backend's incarnations. What can fail is a stream, and each stream is in the task of its request already.
"""

import contextlib
import math
import random
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence

import attrs
import trio

from llmactors.backends.base import Capabilities, Job, Output, Takeover, UpstreamState
from llmactors.backends.openai.continuation.chooser import AnswerSoFar, StrategyChooser
from llmactors.backends.openai.continuation.strategy import ContinuationStrategy
from llmactors.backends.openai.engines import ENGINES
from llmactors.backends.openai.requests.body import rules_of
from llmactors.backends.openai.requests.call_trace import CANCELLED, JobTrace, call_trace
from llmactors.backends.openai.requests.embedding import EMBEDDING, fetch_vectors
from llmactors.backends.openai.requests.omissions import OMITTABLE
from llmactors.backends.openai.requests.ranking import fetch_scores
from llmactors.backends.openai.requests.upstream import Upstream
from llmactors.backends.openai.responses.answer_stream import AnswerStream, EndedAnswer, PassOn, first_within_s
from llmactors.backends.openai.responses.chunks import NO_TOKEN
from llmactors.backends.openai.routing.balance import Balance
from llmactors.backends.openai.routing.faults import FaultKind, UpstreamFault
from llmactors.backends.openai.routing.health import UpstreamHealth
from llmactors.backends.openai.routing.race import BegunAnswer, Race
from llmactors.backends.openai.routing.tries import Tries, Try
from llmactors.backends.openai.settings import OpenAISettings, UpstreamSettings
from llmactors.errors import BackendFailed, LlmactorsError, ModelError
from llmactors.messages import GenerateRequest, ReasoningTags, TokenDelta
from llmactors.telemetry.tracing.tracer import Tracer
from llmactors.tool_calls.formats import PASSED_ON

_IMAGES = {
    "none": frozenset[str](),
    "data": frozenset({"images"}),
    "links": frozenset({"images", "image_links"}),
}
_TAGS = {
    "upstream": None,
    "think": ReasoningTags("<think>", "</think>"),
    "think_begun": ReasoningTags("<think>", "</think>", begun=True),
}
_HONOURED = frozenset(
    {
        "prompt_ids",
        "frequency_penalty",
        "presence_penalty",
        "logit_bias",
        "ignore_eos",
        "top_logprobs",
        "tools",
        "response_format",
        "reasoning_effort",
        *EMBEDDING,
        "query",
    }
)


@attrs.frozen
class OpenAIStatistics:
    """A snapshot of a backend."""

    running: int
    circuits: Mapping[str, str]
    """The state of each upstream, by its URL."""


class OpenAIBackend:
    """A `StreamingBackend`; `llmactors.backends.base` says what its methods promise.

    Args:
        settings: The upstreams, and how to treat them.
        balance: The circuits of the upstreams. Pass the same balance to each incarnation: a crash of the backend says
            nothing about the upstreams.
        keys: The API keys of the upstreams, in their order; empty for an upstream without a key.
        rng: Chooses upstreams, and varies the pauses.
        connect: Makes the client of an upstream, of its settings, its key and `connect_s`.
    """

    def __init__(
        self,
        settings: OpenAISettings,
        balance: Balance | None = None,
        keys: Sequence[str] = (),
        rng: random.Random | None = None,
        connect: Callable[[UpstreamSettings, str, float], Upstream] = Upstream,
    ) -> None:
        self._settings = settings
        self._balance = balance or Balance.of(settings.upstreams)
        self._rng = rng or random.Random()
        self._connect = connect
        padded = (*keys, *[""] * (len(settings.upstreams) - len(keys)))
        self._keys = padded
        self._upstreams: tuple[Upstream, ...] = ()
        self._chooser = StrategyChooser(settings, ())
        self._running = 0
        self._offer: Callable[[Output], bool] | None = None
        self._tracer: Tracer | None = None
        self._health = UpstreamHealth(self._balance, settings.health_check_s, self._rng)
        omitted = frozenset(OMITTABLE[name] for one in settings.upstreams for name in one.omit) - {""}
        grammars = {"constraint"} if settings.engine in ENGINES else set()
        self.capabilities = Capabilities(
            slots=settings.slots,
            context_tokens=max(one.context_tokens for one in settings.upstreams),
            takeover=Takeover.RESTART if settings.continues == "none" else Takeover.CONTINUE,
            honours=(_HONOURED | rules_of(settings.engine) | _IMAGES[settings.images] | grammars) - omitted,
            omits=omitted,
            tool_format=PASSED_ON if settings.tools == "upstream" else settings.tools,
            reasoning_tags=_TAGS[settings.reasoning],
        )

    def __repr__(self) -> str:
        states = ", ".join(circuit.state.value for circuit in self._balance.circuits)
        return f"<OpenAIBackend running={self._running} upstreams: {states}>"

    def statistics(self) -> OpenAIStatistics:
        """What the backend does now."""
        pairs = zip(self._settings.upstreams, self._balance.circuits, strict=True)
        return OpenAIStatistics(self._running, {one.url: circuit.state.value for one, circuit in pairs})

    def upstreams(self) -> Sequence[UpstreamState]:
        """The state of each upstream now."""
        return self._health.states()

    async def start(self) -> None:
        """Asks no upstream: one that is away now may be there when a request comes.

        Raises `ModelError` where a key is no header's value, or a file of certificate authorities cannot be used.
        """
        await trio.lowlevel.checkpoint()
        try:
            self._upstreams = tuple(
                self._connect(one, key, self._settings.connect_s)
                for one, key in zip(self._settings.upstreams, self._keys, strict=True)
            )
        except ValueError as error:
            raise ModelError(f"the upstreams cannot be asked: {error}") from error
        self._chooser = StrategyChooser(self._settings, self._upstreams)

    async def check(self) -> None:
        """Asks the upstreams that have sent nothing for a while whether they work.

        Never raises: a new incarnation of this backend would mend no upstream.
        """
        await trio.lowlevel.checkpoint()
        due = self._health.due(trio.current_time())
        if due:
            await self._health.ask(due, self._upstreams)
        self._health.log_changes()

    async def close(self) -> None:
        """Closes the connections that no request uses; the others close with their requests."""
        await trio.lowlevel.checkpoint()
        self._offer = None  # the driver has this backend too, and only the garbage collector could free both
        for upstream in self._upstreams:
            upstream.close()

    def offer_outputs(self, offer: Callable[[Output], bool]) -> None:
        """Has outputs given to `offer` at once, as `llmactors.backends.base.OffersOutputs` says."""
        self._offer = offer

    def use_tracer(self, tracer: Tracer) -> None:
        """Has spans made of the requests to upstreams, as `llmactors.backends.base.MakesSpans` says."""
        self._tracer = tracer

    def generate(self, job: Job) -> AsyncGenerator[Output, None]:
        """Yields what comes after `job.tokens`; the last output has `finish`.

        Raises:
            InvalidRequest: An upstream refuses the request as it is.
            Unavailable: No upstream takes requests, or each one that was asked has no room.
            BackendFailed: The tries are used up.
            Interrupted: The stream was lost after its first token, and no upstream can continue the answer.
        """
        return self._read_inputs(job) if job.request.inputs else self._complete(job)

    async def _read_inputs(self, job: Job) -> AsyncGenerator[Output, None]:
        """All vectors or scores come in one response, so that every upstream may be asked after a fault."""
        fetch = fetch_vectors if job.request.query is None else fetch_scores
        tries, output, job_trace = self._tries(job.request), None, JobTrace.of(job, self._tracer)
        self._running += 1
        try:
            while output is None:
                chosen = await self._choose(tries)
                trace = call_trace(job_trace)
                try:
                    upstream, model = self._at(chosen)
                    output = await fetch(upstream, model, job, trace, within_s=self._settings.first_s)
                    trace.end()
                    tries.note_begin(chosen, trio.current_time())
                    tries.note_whole(chosen)
                except UpstreamFault as fault:
                    trace.end(fault.kind.label)
                    self._fail(tries, chosen, fault)
                finally:
                    trace.end(ended=CANCELLED)
                    tries.end(chosen)
        finally:
            self._running -= 1
        yield output

    async def _complete(self, job: Job) -> AsyncGenerator[Output, None]:
        answer = AnswerSoFar(job.request, list(job.tokens))
        if len(answer.deltas) >= job.request.max_tokens:
            yield Output(job.key, (), "length", answer.prompt_tokens)
            return
        tries, trace = self._tries(job.request), JobTrace.of(job, self._tracer)
        self._running += 1
        try:
            finished = False
            while not finished:
                if answer.deltas and self._settings.continues == "none":
                    raise answer.error
                begun = await self._begin(tries, answer, trace)
                if begun is None:
                    continue
                stream, deltas, finished = begun.stream, begun.deltas, begun.is_whole
                try:
                    pass_on = self._pass_on_of(job, answer)
                    while True:
                        answer.add(deltas)
                        if finished:
                            tries.note_whole(begun.tried)
                            begun.trace.end()
                            yield Output(job.key, deltas, stream.finish, stream.prompt_tokens, stream.cached_tokens)
                            break
                        if deltas:
                            yield Output(job.key, deltas)
                        deltas, finished = await stream.next(pass_on)
                except UpstreamFault as fault:
                    begun.trace.end(fault.kind.label)
                    self._fail(tries, begun.tried, self._chooser.judge(begun.tried.place, None, answer, fault), answer)
                finally:
                    await begun.close()
                    tries.end(begun.tried)
        finally:
            self._running -= 1

    async def _begin(self, tries: Tries, answer: AnswerSoFar, trace: JobTrace | None) -> BegunAnswer | None:
        """Asks the next upstream, and a second one where the first is late. None: every one that was asked failed.

        Raises the error for the client where no other try can help.
        """
        first = await self._choose(tries, answer)
        race = Race(
            tries,
            lambda tried: self._ask(tried, answer, trace),
            lambda tried, fault: self._fail(tries, tried, fault, answer),
        )
        # No second upstream is asked for the rest of a begun answer: few upstreams can go on with the answer.
        late_s = self._settings.hedge_s if self._settings.hedge_s and not answer.deltas else math.inf
        return await race.run(first, late_s, lambda: tries.choose_second(first, trio.current_time(), self._rng))

    async def _ask(self, tried: Try, answer: AnswerSoFar, job_trace: JobTrace | None) -> BegunAnswer:
        """Sends the request to the upstream of a try, and waits for its first token. Raises `UpstreamFault`."""
        strategy: ContinuationStrategy | None = None
        trace = call_trace(job_trace, is_hedge=tried.is_hedge)
        first_by = trio.current_time() + first_within_s(answer.request, self._settings)
        try:
            with _in_time(first_by):
                strategy = await self._chooser.choose(tried.place, answer)
                opening = await self._chooser.opening(tried.place, strategy, answer)
                if opening is None:
                    end = EndedAnswer(answer.prompt_tokens)
                    return BegunAnswer(tried, end, [TokenDelta(NO_TOKEN, "")], is_whole=True, trace=trace)
                upstream = self._upstreams[tried.place]
                stream = await AnswerStream.open(upstream, opening, answer.request, self._settings, first_by, trace)
            try:
                deltas, finished = await stream.next()
                while not (deltas or finished or stream.begun):
                    deltas, finished = await stream.next()
            except BaseException:
                await stream.close()
                raise
        except UpstreamFault as fault:
            trace.end(fault.kind.label)
            raise self._chooser.judge(tried.place, strategy, answer, fault) from fault
        except BaseException:
            trace.end(ended=CANCELLED)
            raise
        return BegunAnswer(tried, stream, deltas, finished, trace)

    def _fail(self, tries: Tries, tried: Try, fault: UpstreamFault, answer: AnswerSoFar | None = None) -> None:
        try:
            tries.note_fault(tried, fault, trio.current_time(), self._rng)
        except LlmactorsError as error:
            if answer is not None and answer.deltas:
                raise answer.error from error
            raise
        finally:
            self._health.log_changes()

    def _pass_on_of(self, job: Job, answer: AnswerSoFar) -> PassOn | None:
        """The function that gives deltas of a job to the driver at once; None where no driver takes any."""
        offer = self._offer
        if offer is None:
            return None

        def pass_on(deltas: list[TokenDelta]) -> bool:
            if not offer(Output(job.key, deltas)):
                return False
            answer.add(deltas)
            return True

        return pass_on

    def _tries(self, request: GenerateRequest) -> Tries:
        """The tries of a request. Its deadline is only known roughly here, and the ledger ends the request in time."""
        within_s = math.inf if request.timeout_ms is None else request.timeout_ms / 1000
        if request.deadline_ms is not None:
            within_s = min(within_s, request.deadline_ms / 1000 - time.time())
        return Tries(self._settings, self._balance, trio.current_time() + within_s)

    def _at(self, chosen: Try) -> tuple[Upstream, str]:
        """The upstream of a try, and the model's name there."""
        return self._upstreams[chosen.place], self._settings.upstreams[chosen.place].model

    async def _choose(self, tries: Tries, answer: AnswerSoFar | None = None) -> Try:
        """Waits for an upstream that takes requests. Raises the error for the client where the request is given up."""
        while True:
            try:
                chosen = tries.choose(trio.current_time(), self._rng)
            except LlmactorsError as error:
                if answer is not None and answer.deltas:
                    raise answer.error from error
                raise
            if isinstance(chosen, Try):
                return chosen
            await trio.sleep(chosen)


@contextlib.contextmanager
def _in_time(first_by: float) -> Iterator[None]:
    try:
        with trio.fail_at(first_by):
            yield
    except trio.TooSlowError as error:
        raise UpstreamFault(FaultKind.SILENT, BackendFailed("the upstream did not answer in time")) from error
