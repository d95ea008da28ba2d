"""Remote servers as a backend: tries upstreams until one begins to answer.

Before the first token any fault of an upstream that may pass, or that another upstream may not have, is followed by
another try. After it the answer is bound to its upstream: another would begin a different one. Only where upstreams
`continue` a raw prompt does another take it up from the text so far.

An upstream is no actor of its own. What lasts of it is four numbers of its circuit, which no crash can corrupt and
which outlive the backend's incarnations; what can fail are the exchanges, and each is a task of its request already.
"""

import random
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any

import attrs
import msgspec
import trio

from llmactors.actors.backoff import Backoff
from llmactors.backends.base import Capabilities, Job, Output, Takeover
from llmactors.backends.openai.answer import TextOverrun, UpstreamAnswer
from llmactors.backends.openai.balance import Balance
from llmactors.backends.openai.chunks import Chunk
from llmactors.backends.openai.settings import OpenAISettings
from llmactors.backends.openai.upstream import Exchange, Upstream, UpstreamFault
from llmactors.errors import BackendFailed, InternalError, Interrupted, LlmactorsError, Unavailable
from llmactors.messages import OPTIONAL_FIELDS, GenerateRequest, TokenDelta

_PAUSE = Backoff(first_s=0.1, factor=2.0, cap_s=2.0, jitter=0.5)
"""Between two tries at one upstream."""
_LOOK_AGAIN_S = 0.05
_USAGE_S = 2.0
"""How long the counts may take after the last token."""
_MAX_STOPS = 4
"""OpenAI's limit. All of them are looked for here anyway."""


@attrs.frozen
class OpenAIStatistics:
    """A snapshot of a backend."""

    running: int
    circuits: Mapping[str, str]
    """The state of each upstream, by its URL."""


@attrs.define
class _Course:
    """One request on its way through its tries."""

    job: Job
    text: str
    """The answer so far."""
    count: int
    """How many tokens that is."""
    tries: int = 0
    waited_s: float = 0.0
    avoid: set[int] = attrs.field(factory=set)
    last: UpstreamFault | None = None


class OpenAIBackend:
    """A `StreamingBackend`; `llmactors.backends.base` says what its methods promise.

    Args:
        settings: Its upstreams.
        balance: Hand the same one to each incarnation: a crash here says nothing about the upstreams.
        keys: The upstreams' keys, in their order; empty where one wants none.
        rng: Spreads requests and waits.
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
            honours=frozenset(OPTIONAL_FIELDS),
        )

    def __repr__(self) -> str:
        states = ", ".join(circuit.state.value for circuit in self._balance.circuits)
        return f"<OpenAIBackend running={self._running} upstreams: {states}>"

    def statistics(self) -> OpenAIStatistics:
        """What it does now."""
        pairs = zip(self._settings.upstreams, self._balance.circuits, strict=True)
        return OpenAIStatistics(self._running, {one.url: circuit.state.value for one, circuit in pairs})

    async def start(self) -> None:
        """Asks nobody: an upstream that is away now may be there when a request comes."""
        await trio.lowlevel.checkpoint()
        self._upstreams = tuple(
            Upstream(one.url, key, self._settings.connect_s)
            for one, key in zip(self._settings.upstreams, self._keys, strict=True)
        )

    async def check(self) -> None:
        """Never raises: to make this backend anew would mend no upstream."""
        await trio.lowlevel.checkpoint()

    async def close(self) -> None:
        """Closes all connections."""
        for upstream in self._upstreams:
            await upstream.close()

    async def generate(self, job: Job) -> AsyncGenerator[Output, None]:
        """Yields what comes after `job.tokens`; the last output has `finish`.

        Raises:
            InvalidRequest: an upstream refuses the request as it is.
            Unavailable: no upstream takes requests, or all that were asked have no room.
            BackendFailed: the tries are used up.
            Interrupted: it was lost after its first token, and cannot continue.
        """
        course = _Course(job, "".join(delta.text for delta in job.tokens), len(job.tokens))
        if course.count and not self._continues(job.request):
            raise Interrupted("the upstream was lost, and an answer of this kind cannot be continued")
        if course.count >= job.request.max_tokens:
            yield Output(job.key, (), "length")
            return
        self._running += 1
        try:
            finished = False
            while not finished:
                place, trial = await self._choose(course)
                answer = UpstreamAnswer(job.request.stop, job.request.max_tokens - course.count)
                logged = course.count
                try:
                    first_by = trio.current_time() + self._settings.first_s
                    exchange = await self._open(place, course, first_by)
                    try:
                        while not finished:
                            deltas, finished = await self._next(exchange, answer, first_by)
                            if deltas and course.count == logged:
                                self._balance.circuits[place].succeed()
                                course.tries = 0
                            course.text += "".join(delta.text for delta in deltas)
                            course.count += len(deltas)
                            if finished:
                                self._balance.circuits[place].succeed()
                                prompt_tokens = max(0, answer.prompt_tokens - logged)
                                yield Output(job.key, deltas, answer.finish, prompt_tokens)
                            elif deltas:
                                yield Output(job.key, deltas)
                    finally:
                        await exchange.close()
                except UpstreamFault as fault:
                    self._judge(place, course, fault)
                finally:
                    if trial:
                        self._balance.circuits[place].give_back()
        finally:
            self._running -= 1

    def _continues(self, request: GenerateRequest) -> bool:
        return self._settings.continues and request.raw and not request.messages and not request.prompt_ids

    async def _choose(self, course: _Course) -> tuple[int, bool]:
        """Waits for an upstream that takes requests: which, and whether this is its trial. Raises the last fault's."""
        if course.tries >= self._settings.attempts:
            raise self._given_up(course)
        while True:
            now = trio.current_time()
            place = self._balance.choose(now, self._rng, avoid=course.avoid)
            if place is not None and (place not in course.avoid or not course.tries):
                break
            if place is not None:  # nobody else is left: the same one again, after a pause
                course.avoid.clear()
                pause_s = _PAUSE.delay_s(course.tries - 1, self._rng)
            else:
                pause_s = max(_LOOK_AGAIN_S, self._balance.next_at(now) - now)
            course.waited_s += pause_s
            if course.waited_s > self._settings.wait_s:
                raise self._given_up(course, retry_after_s=pause_s)
            await trio.sleep(pause_s)
        course.tries += 1
        return place, self._balance.circuits[place].take(now)

    @staticmethod
    def _given_up(course: _Course, *, retry_after_s: float = 1.0) -> LlmactorsError:
        if course.last is not None:
            return course.last.error
        return Unavailable("no upstream takes requests now", retry_after_s=retry_after_s)

    def _judge(self, place: int, course: _Course, fault: UpstreamFault) -> None:
        """Draws the consequences. Raises where no other try can follow."""
        now, circuit = trio.current_time(), self._balance.circuits[place]
        if fault.hold_s is not None:
            circuit.hold(now + fault.hold_s)
        if fault.blames:
            circuit.fail(now, self._rng)
        elif not fault.again:
            circuit.succeed()
        course.avoid.add(place)
        course.last = fault
        if not fault.again:
            raise fault.error from fault
        if course.count and not self._continues(course.job.request):
            text = f"{fault.error.message}; the answer cannot be continued at another"
            raise Interrupted(text) from fault

    async def _open(self, place: int, course: _Course, first_by: float) -> Exchange:
        upstream, model = self._upstreams[place], self._settings.upstreams[place].model
        route, body = self._request(model, course)
        try:
            with trio.fail_at(first_by):
                return await upstream.open(route, body)
        except trio.TooSlowError as error:
            raise UpstreamFault(BackendFailed("the upstream did not answer in time")) from error

    async def _next(self, exchange: Exchange, answer: UpstreamAnswer, first_by: float) -> tuple[list[TokenDelta], bool]:
        """The next deltas, and whether these are the last."""
        chunks: list[Chunk] = []
        limit = self._deadline(answer, first_by)
        try:
            with trio.fail_at(limit):
                while not chunks:
                    chunks = await exchange.next()
        except (UpstreamFault, trio.TooSlowError) as error:
            if answer.finish is not None:  # only the counts are missing, or a proper end
                return answer.close(), True
            if isinstance(error, UpstreamFault):
                raise
            raise UpstreamFault(BackendFailed("the upstream fell silent")) from error
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

    def _deadline(self, answer: UpstreamAnswer, first_by: float) -> float:
        now = trio.current_time()
        if answer.finish is not None:
            return now + min(_USAGE_S, self._settings.silence_s)
        return now + self._settings.silence_s if answer.begun else first_by

    def _request(self, model: str, course: _Course) -> tuple[str, dict[str, Any]]:
        """The route, and the body."""
        request = course.job.request
        body: dict[str, Any] = {
            "model": model,
            "stream": True,
            "stream_options": {"include_usage": True},
            "temperature": request.temperature,
            "top_p": request.top_p,
        }
        if request.seed is not None:
            body["seed"] = request.seed
        for field in ("frequency_penalty", "presence_penalty"):
            if value := getattr(request, field):
                body[field] = value
        if request.logit_bias:
            body["logit_bias"] = {str(token): bias for token, bias in request.logit_bias}
        if request.stop:
            body["stop"] = list(request.stop[:_MAX_STOPS])
        left = request.max_tokens - course.count
        messages = _messages_of(request)
        if request.raw and not messages:
            prompt = list(request.prompt_ids) or request.prompt + course.text
            return "completions", body | {"prompt": prompt, "max_tokens": left}
        if course.count:
            raise InternalError("a chat was to be continued")
        chat = messages or [{"role": "user", "content": request.prompt}]
        return "chat/completions", body | {"messages": chat, self._settings.tokens_field: left}


def _messages_of(request: GenerateRequest) -> list[Any]:
    """The turns of a chat, where the request has any."""
    found: list[Any] = msgspec.to_builtins(request.messages)
    return list(found)
