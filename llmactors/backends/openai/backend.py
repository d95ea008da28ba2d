"""Remote servers as a backend: tries upstreams until one begins to answer.

Before the first token, another try follows any fault that may pass, or that another upstream may not have. After the
first token the answer is bound to its upstream, since another upstream would begin a different answer. Only where the
upstreams `continue` raw prompts does another one go on from the text so far.

An upstream is no actor. Its lasting state is four numbers of its circuit, which no crash can corrupt and which outlive
the backend's incarnations. What can fail is a stream, and each stream is in the task of its request already.
"""

import random
from collections.abc import AsyncGenerator, Mapping, Sequence

import attrs
import trio

from llmactors.actors.backoff import Backoff
from llmactors.backends.base import Capabilities, Job, Output, Takeover
from llmactors.backends.openai.answer import TextOverrun, UpstreamAnswer
from llmactors.backends.openai.balance import Balance
from llmactors.backends.openai.chunks import Chunk
from llmactors.backends.openai.circuit import CircuitState
from llmactors.backends.openai.embedding import EMBEDDING, fetch_vectors
from llmactors.backends.openai.request import body_of, rules_of
from llmactors.backends.openai.settings import OpenAISettings
from llmactors.backends.openai.upstream import ChunkStream, Upstream, UpstreamFault
from llmactors.errors import BackendFailed, Interrupted, LlmactorsError, ModelError, Unavailable
from llmactors.messages import GenerateRequest, TokenDelta
from llmactors.tool_calls.formats import PASSED_ON

_PAUSE = Backoff(first_s=0.1, factor=2.0, cap_s=2.0, jitter=0.5)
"""Between two tries at one upstream."""
_LOOK_AGAIN_S = 0.05
_USAGE_S = 2.0
"""How long the upstream may take from the finish reason to the counts of tokens."""
_IMAGES = {
    "none": frozenset[str](),
    "data": frozenset({"images"}),
    "links": frozenset({"images", "image_links"}),
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
    }
)


@attrs.frozen
class OpenAIStatistics:
    """A snapshot of a backend."""

    running: int
    circuits: Mapping[str, str]
    """The state of each upstream, by its URL."""


@attrs.define
class _FailoverState:
    """How far one request has come through its tries at upstreams."""

    job: Job
    text: str
    """The answer so far."""
    count: int
    """How many tokens the text has."""
    tries: int = 0
    waited_s: float = 0.0
    avoid: set[int] = attrs.field(factory=set)
    last: UpstreamFault | None = None


class OpenAIBackend:
    """A `StreamingBackend`; `llmactors.backends.base` says what its methods promise.

    Args:
        settings: The upstreams, and how to treat them.
        balance: The circuits of the upstreams. Pass the same balance to each incarnation: a crash of the backend says
            nothing about the upstreams.
        keys: The API keys of the upstreams, in their order; empty for an upstream without a key.
        rng: Chooses upstreams, and varies the pauses.
    """

    def __init__(
        self,
        settings: OpenAISettings,
        balance: Balance | None = None,
        keys: Sequence[str] = (),
        rng: random.Random | None = None,
    ) -> None:
        self._settings = settings
        self._balance = balance or Balance.of([one.weight for one in settings.upstreams])
        self._rng = rng or random.Random()
        padded = (*keys, *[""] * (len(settings.upstreams) - len(keys)))
        self._keys = padded
        self._upstreams: tuple[Upstream, ...] = ()
        self._running = 0
        self.capabilities = Capabilities(
            slots=settings.slots,
            context_tokens=settings.context,
            takeover=Takeover.CONTINUE if settings.continues else Takeover.RESTART,
            honours=_HONOURED | rules_of(settings.engine) | _IMAGES[settings.images],
            tool_format=PASSED_ON,
        )

    def __repr__(self) -> str:
        states = ", ".join(circuit.state.value for circuit in self._balance.circuits)
        return f"<OpenAIBackend running={self._running} upstreams: {states}>"

    def statistics(self) -> OpenAIStatistics:
        """What the backend does now."""
        pairs = zip(self._settings.upstreams, self._balance.circuits, strict=True)
        return OpenAIStatistics(self._running, {one.url: circuit.state.value for one, circuit in pairs})

    def upstreams(self) -> Mapping[str, bool]:
        """Whether the circuit of each upstream is closed, by the URL of the upstream."""
        pairs = zip(self._settings.upstreams, self._balance.circuits, strict=True)
        return {one.url: circuit.state is CircuitState.CLOSED for one, circuit in pairs}

    async def start(self) -> None:
        """Asks no upstream: one that is away now may be there when a request comes.

        Raises `ModelError` where a key is no header's value, or a file of certificate authorities cannot be used.
        """
        await trio.lowlevel.checkpoint()
        try:
            self._upstreams = tuple(
                Upstream(one, key, self._settings.connect_s)
                for one, key in zip(self._settings.upstreams, self._keys, strict=True)
            )
        except ValueError as error:
            raise ModelError(f"the upstreams cannot be asked: {error}") from error

    async def check(self) -> None:
        """Never raises: a new incarnation of this backend would mend no upstream."""
        await trio.lowlevel.checkpoint()

    async def close(self) -> None:
        """Closes the connections that no request uses; the others close with their requests."""
        await trio.lowlevel.checkpoint()
        for upstream in self._upstreams:
            upstream.close()

    def generate(self, job: Job) -> AsyncGenerator[Output, None]:
        """Yields what comes after `job.tokens`; the last output has `finish`.

        Raises:
            InvalidRequest: An upstream refuses the request as it is.
            Unavailable: No upstream takes requests, or each one that was asked has no room.
            BackendFailed: The tries are used up.
            Interrupted: The stream was lost after its first token, and no upstream can continue the answer.
        """
        return self._embed(job) if job.request.inputs else self._complete(job)

    async def _embed(self, job: Job) -> AsyncGenerator[Output, None]:
        """All vectors come in one response, so that every upstream may be asked after a fault."""
        failover, output = _FailoverState(job, "", 0), None
        self._running += 1
        try:
            while output is None:
                place, trial = await self._choose(failover)
                upstream, model = self._upstreams[place], self._settings.upstreams[place].model
                try:
                    output = await fetch_vectors(upstream, model, job, within_s=self._settings.first_s)
                    self._balance.circuits[place].succeed()
                except UpstreamFault as fault:
                    self._judge(place, failover, fault)
                finally:
                    if trial:
                        self._balance.circuits[place].give_back()
        finally:
            self._running -= 1
        yield output

    async def _complete(self, job: Job) -> AsyncGenerator[Output, None]:
        failover = _FailoverState(job, "".join(delta.text for delta in job.tokens), len(job.tokens))
        if failover.count and not self._continues(job.request):
            raise Interrupted("the upstream was lost, and an answer of this kind cannot be continued")
        if failover.count >= job.request.max_tokens:
            yield Output(job.key, (), "length")
            return
        self._running += 1
        try:
            finished = False
            while not finished:
                place, trial = await self._choose(failover)
                logged = failover.count
                room, least = job.request.max_tokens - logged, job.request.min_tokens - logged
                answer = UpstreamAnswer(job.request.stop, room, job.request.top_logprobs or 0, least)
                try:
                    first_by = trio.current_time() + self._settings.first_s
                    stream = await self._open(place, failover, first_by)
                    try:
                        while not finished:
                            deltas, finished = await self._next(stream, answer, first_by)
                            if deltas and failover.count == logged:
                                self._balance.circuits[place].succeed()
                                failover.tries = 0
                            failover.text += "".join(delta.text for delta in deltas)
                            failover.count += len(deltas)
                            if finished:
                                self._balance.circuits[place].succeed()
                                prompt_tokens = max(0, answer.prompt_tokens - logged)
                                yield Output(job.key, deltas, answer.finish, prompt_tokens)
                            elif deltas:
                                yield Output(job.key, deltas)
                    finally:
                        await stream.close()
                except UpstreamFault as fault:
                    self._judge(place, failover, fault)
                finally:
                    if trial:
                        self._balance.circuits[place].give_back()
        finally:
            self._running -= 1

    def _continues(self, request: GenerateRequest) -> bool:
        return self._settings.continues and request.raw and not request.messages and not request.prompt_ids

    async def _choose(self, failover: _FailoverState) -> tuple[int, bool]:
        """Waits for an upstream that takes requests.

        Returns its place, and whether this request is the trial of its circuit. Raises the error of the last fault.
        """
        if failover.tries >= self._settings.attempts:
            raise self._given_up(failover)
        while True:
            now = trio.current_time()
            place = self._balance.choose(now, self._rng, avoid=failover.avoid)
            if place is not None and (place not in failover.avoid or not failover.tries):
                break
            if place is not None:  # every other upstream has failed: this one is asked again, after a pause
                failover.avoid.clear()
                pause_s = _PAUSE.delay_s(failover.tries - 1, self._rng)
            else:
                pause_s = max(_LOOK_AGAIN_S, self._balance.next_at(now) - now)
            failover.waited_s += pause_s
            if failover.waited_s > self._settings.wait_s:
                raise self._given_up(failover, retry_after_s=pause_s)
            await trio.sleep(pause_s)
        failover.tries += 1
        return place, self._balance.circuits[place].take(now)

    @staticmethod
    def _given_up(failover: _FailoverState, *, retry_after_s: float = 1.0) -> LlmactorsError:
        if failover.last is not None:
            return failover.last.error
        return Unavailable("no upstream takes requests now", retry_after_s=retry_after_s)

    def _judge(self, place: int, failover: _FailoverState, fault: UpstreamFault) -> None:
        """Records a fault. Raises the error for the client where no other try can follow."""
        now, circuit = trio.current_time(), self._balance.circuits[place]
        if fault.hold_s is not None:
            circuit.hold(now + fault.hold_s)
        if fault.blames:
            circuit.fail(now, self._rng)
        elif not fault.again:
            circuit.succeed()
        failover.avoid.add(place)
        failover.last = fault
        if not fault.again:
            raise fault.error from fault
        if failover.count and not self._continues(failover.job.request):
            text = f"{fault.error.message}; another upstream cannot continue the answer"
            raise Interrupted(text) from fault

    async def _open(self, place: int, failover: _FailoverState, first_by: float) -> ChunkStream:
        upstream, model = self._upstreams[place], self._settings.upstreams[place].model
        settings = self._settings
        route, body = body_of(
            failover.job.request,
            model,
            failover.text,
            failover.count,
            tokens_field=settings.tokens_field,
            engine=settings.engine,
        )
        try:
            with trio.fail_at(first_by):
                return await upstream.open(route, body)
        except trio.TooSlowError as error:
            raise UpstreamFault(BackendFailed("the upstream did not answer in time")) from error

    async def _next(
        self, stream: ChunkStream, answer: UpstreamAnswer, first_by: float
    ) -> tuple[list[TokenDelta], bool]:
        """Waits for the next deltas, and says whether they are the last."""
        chunks: list[Chunk] = []
        fault: UpstreamFault | None = None
        # Not `fail_at`, which takes longer, and this is done for every token.
        with trio.CancelScope(deadline=self._deadline(answer, first_by)) as scope:
            try:
                while not chunks:
                    chunks = await stream.next()
            except UpstreamFault as caught:
                fault = caught
        if scope.cancelled_caught:
            fault = UpstreamFault(BackendFailed("the upstream fell silent"))
        if fault is None:
            return _take(chunks, answer)
        if answer.finish is None:
            raise fault
        # The answer is complete. Only the counts, or an orderly end of the stream, did not come.
        return answer.close(), True

    def _deadline(self, answer: UpstreamAnswer, first_by: float) -> float:
        now = trio.current_time()
        if answer.finish is not None:
            return now + min(_USAGE_S, self._settings.silence_s)
        return now + self._settings.silence_s if answer.begun else first_by


def _take(chunks: Sequence[Chunk], answer: UpstreamAnswer) -> tuple[list[TokenDelta], bool]:
    """The deltas of these chunks, and whether they are the last. Raises `UpstreamFault`."""
    deltas: list[TokenDelta] = []
    for chunk in chunks:
        if chunk.finish == "content_filter":
            text = "the upstream's content filter ended the answer"
            raise UpstreamFault(BackendFailed(text), again=False, blames=False)
        try:
            deltas += answer.take(chunk)
        except TextOverrun as error:
            raise UpstreamFault(BackendFailed("the upstream sends more text than was asked for")) from error
        if chunk.done or answer.stopped:
            if answer.finish is None:
                raise UpstreamFault(BackendFailed("the upstream ended the answer without a reason"))
            return deltas + answer.close(), True
    return deltas, False
