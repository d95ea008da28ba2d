"""A real model: llama.cpp in a child process, reached by HTTP over loopback.

    LlamaBackend ── LlamaProcess ── pipes ── llama_child (xllamacpp, native code)
          ├──────── LlamaClient ─── HTTP ────────┘
          └──────── LlamaAnswer: from events to the deltas of the log; pure

A crash of native code ends the child: `check` and every running `generate` then raise `LlamaCrashed`, the actor that
owns the backend ends, and its supervisor starts a new one. The requests continue from their logs.
"""

import contextlib
import functools
import secrets
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

import attrs
import msgspec
import trio

from llmactors.backends.base import Capabilities, Job, Output
from llmactors.backends.fit import fit
from llmactors.backends.llama.abilities import declare
from llmactors.backends.llama.answer import LlamaAnswer
from llmactors.backends.llama.child import ChildConfig
from llmactors.backends.llama.client import CompletionStream, LlamaClient, ServedProperties, at_most
from llmactors.backends.llama.constrained import (
    ConstraintRest,
    overshot_trigger,
    rest_of_constraint,
    whole_constraint,
)
from llmactors.backends.llama.conversation import conversation, knows_effort
from llmactors.backends.llama.embedding import VectorMaker
from llmactors.backends.llama.gguf import POOLING_LAST, POOLING_RANK, check_companions, read_gguf
from llmactors.backends.llama.process import LlamaCrashed, LlamaProcess
from llmactors.backends.llama.prompt import Prompt, PromptReader
from llmactors.backends.llama.quoting import Quoting
from llmactors.backends.llama.ranking import ScoreMaker
from llmactors.backends.llama.sampling import sampling_of
from llmactors.backends.llama.settings import LlamaSettings
from llmactors.backends.llama.stall import StallWatch
from llmactors.backends.llama.vocabulary import Vocabulary, controls_of, vocabulary_of
from llmactors.errors import BackendFailed, InvalidRequest, ModelError
from llmactors.http.client_errors import HttpClientError
from llmactors.messages import ChatMessage, GenerateRequest, ReasoningTags, TokenDelta
from llmactors.tool_calls.formats import declared_format, declared_reasoning

_CHAR_TOKENS = 3
"""How many more tokens a character may need, of which each is at least one byte."""
_PROBE = "Hello, wörld!\n  1 + 2 = 3; 你好 мир 😀"


@attrs.frozen
class LlamaStatistics:
    """A snapshot of a backend."""

    pid: int | None
    waiting: int
    """The number of sequences that wait for a token."""
    silence_s: float
    """For how long no sequence has got a token."""


class LlamaBackend:
    """Serves the GGUF file at `path`. A `StreamingBackend`; `llmactors.backends.base` says what its methods promise.

    With `reproducible`, the takeover of a request that is greedy or has a seed is `EXACT`. Any other request leaves the
    choice of words to chance, and continues from its log at once.
    """

    def __init__(self, path: Path, settings: LlamaSettings | None = None) -> None:
        self._path = path
        self._settings = settings or LlamaSettings()
        self._tool_format = ""
        self._knows_effort = False
        self._reasoning_tags: ReasoningTags | None = None
        self.capabilities = self._declare(self._settings.context_tokens)
        api_key = secrets.token_urlsafe(32)  # loopback is open to every user of the machine
        self._config = ChildConfig(
            model_path=str(path),
            api_key=api_key,
            slots=self._settings.slots,
            context_tokens=self._settings.context_tokens,
            threads=self._settings.threads,
            step_tokens=self._settings.step_tokens,
            chat_template=self._settings.chat_template,
            mmproj_path=self._settings.mmproj,
            lora_path=self._settings.lora,
            gpu_layers=self._settings.gpu_layers,
            flash_attn=self._settings.flash_attn,
            kv_type=self._settings.kv_type,
        )
        self._process = LlamaProcess(self._config)
        self._connected: LlamaClient | None = None
        self._reader: PromptReader | None = None
        self._inputs: VectorMaker | ScoreMaker | None = None
        """What makes something of the inputs of a request."""
        self._vocabulary = Vocabulary(())
        self._stall = StallWatch(self._settings.stall_s, self._settings.slowest_prompt_tokens_per_s)

    def kill(self) -> None:
        """Kills the child process. Raises `Conflict` where none runs."""
        self._process.kill()

    def __repr__(self) -> str:
        return f"<LlamaBackend {self._path.name} pid={self._process.pid} waiting={self._stall.waiting}>"

    def statistics(self) -> LlamaStatistics:
        """What the backend does now."""
        return LlamaStatistics(self._process.pid, self._stall.waiting, self._stall.silence_s(trio.current_time()))

    async def start(self) -> None:
        """Returns when requests can be served.

        Raises:
            ModelError: xllamacpp is not installed, or a file is missing, damaged or of an unknown kind.
        """
        await trio.to_thread.run_sync(check_companions, self._settings.mmproj, self._settings.lora)
        gguf = await trio.to_thread.run_sync(read_gguf, self._path)
        self._vocabulary = await trio.to_thread.run_sync(vocabulary_of, gguf)
        context = min(self._settings.context_tokens, gguf.trained_context or self._settings.context_tokens)
        pooling = gguf.pooling
        self._process = LlamaProcess(msgspec.structs.replace(self._config, context_tokens=context, pooling=pooling))
        address = await self._process.start()
        client = self._connected = LlamaClient(address, self._config.api_key)
        ranks = pooling == POOLING_RANK
        try:
            served = await client.properties()
            if not ranks:
                await self._learn_template(client, served)
                await self._check_vocabulary(client)
        except (HttpClientError, msgspec.MsgspecError) as error:
            raise LlamaCrashed(await self._process.obituary()) from error
        quoting = Quoting(controls_of(gguf))
        self._reader = PromptReader(client, self._vocabulary, quoting, has_template=bool(served.template))
        context = min(served.context_tokens, context)
        self.capabilities = self._declare(context, ranks=ranks)
        # llama.cpp reads an input in one step, unless the last token's vector stands for the whole input.
        most_tokens = context if pooling == POOLING_LAST else min(context, self._settings.step_tokens)
        self._inputs = (
            ScoreMaker(client, self._stall, most_tokens)
            if ranks
            else VectorMaker(client, self._reader, self._stall, most_tokens)
        )

    def generate(self, job: Job) -> AsyncGenerator[Output, None]:
        """Yields what comes after `job.tokens`; the last output has `finish`.

        Raises:
            ContextExceeded: The prompt and the answer together do not fit into a slot.
            InvalidRequest: The model has no token with one of the ids, or llama.cpp does not take the grammar or an
                image.
            Interrupted: No valid continuation of a constrained answer is known.
            BackendFailed: llama.cpp gave up this one request.
            LlamaCrashed: The child process has ended.
        """
        return self._read_inputs(job) if job.request.inputs else self._complete(job)

    async def _complete(self, job: Job) -> AsyncGenerator[Output, None]:
        request = job.request
        exact = self._settings.reproducible and (request.temperature <= 0 or request.seed is not None)
        again = exact and bool(job.tokens)
        try:
            prompt = await self._read(request)
            if job.tokens:
                await prompt.count()
            request = fit(request, prompt.tokens, self.capabilities.context_tokens)
            answer = await self._answer(request, job)
            if answer.finished:
                yield _output(job, (), answer, prompt)
            while not answer.finished:
                rest = await self._constrain(request, answer, again=again)
                if rest.is_complete and not answer.holds_text:
                    answer.finish = "stop"
                    yield _output(job, (), answer, prompt)
                    break
                stream = await self._begin(prompt, answer, request, rest, exact=exact, again=again)
                try:
                    while not answer.over:
                        deltas = await self._next(stream, answer)
                        if deltas or answer.finished:
                            yield _output(job, deltas, answer, prompt)
                finally:
                    stream.close()
                if answer.hidden and not answer.replaying:
                    deltas = await self._ask_hidden(prompt, answer, request, exact=exact)
                    yield _output(job, deltas, answer, prompt)
                again = False
        except (HttpClientError, msgspec.MsgspecError) as error:
            raise LlamaCrashed(await self._process.obituary()) from error

    async def _read_inputs(self, job: Job) -> AsyncGenerator[Output, None]:
        if self._inputs is None:
            raise LlamaCrashed("llama.cpp's process was not started")
        try:
            async with contextlib.aclosing(self._inputs.generate(job)) as outputs:
                async for output in outputs:
                    yield output
        except (HttpClientError, msgspec.MsgspecError) as error:
            raise LlamaCrashed(await self._process.obituary()) from error

    async def check(self) -> None:
        """Raises `LlamaCrashed` when the child has died, does not answer, or answers but makes no tokens."""
        self._process.check_nowait()
        try:
            with trio.move_on_after(self._settings.health_s) as deadline:
                await self._client.health()
        except HttpClientError as error:
            raise LlamaCrashed(await self._process.obituary()) from error
        except BackendFailed as error:
            raise LlamaCrashed(error.message) from error
        if deadline.cancelled_caught:
            raise self._process.hang(f"llama.cpp did not answer within {self._settings.health_s:g} s")
        # Threads of their own answer /health, also while the thread that decodes hangs.
        now = trio.current_time()
        if self._stall.stalled(now):
            silence_s = self._stall.silence_s(now)
            raise self._process.hang(f"llama.cpp made no token for {silence_s:.1f} s")

    async def close(self) -> None:
        """Ends the child, also after a failed or cancelled `start`. Takes a few seconds at most."""
        await self._process.close()

    @property
    def _client(self) -> LlamaClient:
        if self._connected is None:
            raise LlamaCrashed("llama.cpp's process was not started")
        return self._connected

    def _declare(self, context_tokens: int, *, ranks: bool | None = None) -> Capabilities:
        return declare(
            self._settings,
            context_tokens,
            ranks=ranks,
            tool_format=self._tool_format,
            knows_effort=self._knows_effort,
            reasoning_tags=self._reasoning_tags,
        )

    async def _check_vocabulary(self, client: LlamaClient) -> None:
        for token, piece in await client.pieces(_PROBE):
            if self._vocabulary.piece(token) != piece:
                raise ModelError(f"the tokenizer of {self._path.name} is of a kind that llmactors does not know")

    async def _learn_template(self, client: LlamaClient, served: ServedProperties) -> None:
        """Finds in the chat template how the model writes calls and reasoning."""
        if served.renders_tools:
            self._tool_format = declared_format(served.template)
        if served.template:
            self._knows_effort = knows_effort(served.template)
            prompt = await client.apply_template(conversation([ChatMessage("user", "Hello")]))
            self._reasoning_tags = declared_reasoning(served.template, prompt)

    async def _read(self, request: GenerateRequest) -> Prompt:
        """The prompt of a request. Its ids are asked for unless it surely fits: a long one is refused unread."""
        if self._reader is None:
            raise LlamaCrashed("llama.cpp's process was not started")
        prompt = await self._reader.read(request)
        least = 1 if request.max_tokens_fit else request.max_tokens
        if prompt.at_most + least > self.capabilities.context_tokens:
            await prompt.count()
        return prompt

    async def _answer(self, request: GenerateRequest, job: Job) -> LlamaAnswer:
        """The answer as the log has it."""
        answer = LlamaAnswer(self._vocabulary, request, job.tokens)
        if not answer.finished and await self._ended(job):
            answer.finish = "stop"
        return answer

    async def _ended(self, job: Job) -> bool:
        """Whether the log's last token ended the answer, and only the terminal event was lost."""
        if not job.tokens or self._vocabulary.piece(job.tokens[-1].token):
            return False
        return await self._client.ends_answers(job.tokens[-1].token)

    async def _constrain(self, request: GenerateRequest, answer: LlamaAnswer, *, again: bool = False) -> ConstraintRest:
        """What the next stream has to follow: the whole constraint, or what is left of it after the answer so far."""
        if request.constraint is None:
            return ConstraintRest({})
        if again or not (answer.ids or answer.forced):
            return ConstraintRest(whole_constraint(request.constraint))
        rest = functools.partial(rest_of_constraint, request.constraint, answer.data, begins_now=answer.forced)
        return await trio.to_thread.run_sync(rest)  # a long answer takes many milliseconds

    async def _begin(
        self,
        prompt: Prompt,
        answer: LlamaAnswer,
        request: GenerateRequest,
        rest: ConstraintRest,
        *,
        exact: bool,
        again: bool,
    ) -> CompletionStream:
        position, count = answer.begin(again=again)
        before = prompt.known
        if position:
            before = await prompt.behind(answer.ids[:position], answer.data_of(position))
        sampling = sampling_of(request, position=position) | rest.fields
        with self._stall.wait(trio.current_time, prompt_tokens=prompt.at_most + position):
            stream = await self._client.stream(before, count, sampling, cache=not exact)
        if prompt.cached_tokens is None:
            prompt.cached_tokens = stream.cached_tokens
        if not prompt.tokens:
            try:
                prompt.counted(stream.prompt_tokens - position)
                answer.limit(fit(request, prompt.tokens, self.capabilities.context_tokens).max_tokens)
            except InvalidRequest:
                stream.close()
                raise
        return stream

    async def _next(self, stream: CompletionStream, answer: LlamaAnswer) -> list[TokenDelta]:
        with self._stall.wait(trio.current_time, prompt_tokens=stream.unread):
            try:
                events = await stream.next()
            except BackendFailed as error:
                if answer.forced or not overshot_trigger(error.message):
                    raise
                answer.force()
                return []
        if not events:
            raise LlamaCrashed("llama.cpp ended a stream without its last event")
        deltas: list[TokenDelta] = []
        for event in events:
            if not answer.over:
                if event.ended not in {None, "eos", "limit"}:
                    raise LlamaCrashed(f"llama.cpp ended a stream for an unknown reason: {event.ended}")
                deltas += answer.take(event)
        return deltas

    async def _ask_hidden(
        self, prompt: Prompt, answer: LlamaAnswer, request: GenerateRequest, *, exact: bool
    ) -> list[TokenDelta]:
        before = await prompt.behind(answer.ids, answer.data)
        rest = await self._constrain(request, answer)
        sampling = sampling_of(request, position=len(answer.ids)) | rest.fields
        count = answer.hidden + (_CHAR_TOKENS if request.constraint else 0)
        with self._stall.wait(trio.current_time, prompt_tokens=at_most(before)):
            found, eos = await self._client.complete(before, count, sampling, cache=not exact)
        taken = answer.shortest_hidden(found) if request.constraint else found
        return answer.take_whole(taken, eos=eos and len(taken) == len(found))


def _output(job: Job, deltas: Sequence[TokenDelta], answer: LlamaAnswer, prompt: Prompt) -> Output:
    if not answer.finished:
        return Output(job.key, deltas)
    return Output(job.key, deltas, answer.finish, prompt.tokens, prompt.cached_tokens or 0)
