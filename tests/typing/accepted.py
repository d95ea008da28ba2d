"""Programs that use the public names as EMBEDDING.md says: a strict type checker accepts all of this file."""

from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from typing import assert_type

import trio

from llmactors import (
    Backend,
    BatchBackend,
    Batching,
    BatchSettings,
    Capabilities,
    FinishReason,
    GenerateRequest,
    Job,
    LlmactorsError,
    Node,
    Output,
    ServedModel,
    Settings,
    StepwiseBackend,
    StreamingBackend,
    Takeover,
    TokenDelta,
    configure_logging,
    errors,
    serve_models,
)


class Streaming:
    """Holds `StreamingBackend` without inheriting from the protocol."""

    def __init__(self) -> None:
        self.capabilities = Capabilities(slots=8, context_tokens=4096, takeover=Takeover.EXACT)

    async def start(self) -> None: ...

    async def check(self) -> None: ...

    async def close(self) -> None: ...

    async def generate(self, job: Job) -> AsyncGenerator[Output, None]:
        await trio.lowlevel.checkpoint()
        if not job.request.prompt:
            raise errors.InvalidRequest("`prompt`: is empty")
        yield Output(job.key, [TokenDelta(1, "one ")], "stop", prompt_tokens=1)


class Stepwise:
    """Holds `StepwiseBackend` without inheriting from the protocol."""

    capabilities = Capabilities(1, 16, Takeover.RESTART, batching=Batching.STATIC, honours=frozenset({"logit_bias"}))

    def __init__(self, path: str) -> None:
        self.path = path
        self.jobs: dict[tuple[str, int], Job] = {}

    async def start(self) -> None:
        raise errors.ModelError(f"{self.path} cannot be read")

    async def admit(self, job: Job) -> None:
        self.jobs[job.key] = job

    async def step(self) -> list[Output]:
        return [Output(key, finish="length") for key in self.jobs]

    def evict(self, key: tuple[str, int]) -> None:
        self.jobs.pop(key, None)

    async def check(self) -> None: ...

    async def close(self) -> None: ...


def shout(prompts: list[str], max_tokens: int) -> Iterator[Sequence[str | None]]:
    for _ in range(max_tokens):
        yield [prompt.upper() for prompt in prompts]


streaming: StreamingBackend = Streaming()
stepwise: StepwiseBackend = Stepwise("model.bin")
backends: list[Backend] = [streaming, stepwise, BatchBackend(lambda: shout, BatchSettings(slots=4, context=64))]
make: Callable[[], Backend] = Streaming
MODELS = [
    ServedModel("streaming", make),
    ServedModel("stepwise", lambda: Stepwise("model.bin")),
    ServedModel("shout", lambda: BatchBackend(lambda: shout)),
]


async def main() -> str:
    configure_logging(json=True, level="warning")
    settings = Settings(model=("mock",), bind="127.0.0.1:0", drain_s=1.0)
    node = Node(settings, [*MODELS, *serve_models(settings)])
    async with trio.open_nursery() as nursery:
        await nursery.start(node.run)
        await node.shut_down()
    return assert_type(node.url, str)


def look(request: GenerateRequest, output: Output, error: LlmactorsError) -> None:
    assert_type(request.max_tokens, int)
    assert_type(output.finish, FinishReason | None)
    assert_type(error.code, str)
    assert_type(error.retry_after_s, float | None)
