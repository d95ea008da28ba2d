"""Mistakes in the use of the public names. A strict type checker finds each of them: without its error, the comment
that expects the error would be an error itself (`warn_unused_ignores`).
"""

from collections.abc import AsyncIterator

import llmactors
from llmactors import Capabilities, Job, Node, Output, ServedModel, Settings, Takeover, TokenDelta

CAPABILITIES = Capabilities(1, 16, Takeover.EXACT)


class WithoutClose:
    capabilities = CAPABILITIES

    async def start(self) -> None: ...

    async def check(self) -> None: ...

    async def generate(self, job: Job) -> AsyncIterator[Output]:
        yield Output(job.key)


class WithoutCleanup(WithoutClose):
    """Its generator cannot be closed, as far as its type says."""

    async def close(self) -> None: ...


def mistakes(job: Job, settings: Settings) -> None:
    llmactors.Nod  # type: ignore[attr-defined]  # noqa: B018
    llmactors.Actor  # type: ignore[attr-defined]  # noqa: B018
    ServedModel("incomplete", WithoutClose)  # type: ignore[arg-type]
    ServedModel("without cleanup", WithoutCleanup)  # type: ignore[arg-type]
    ServedModel("an object", object())  # type: ignore[arg-type]
    Node(settings, "mock")  # type: ignore[arg-type]
    Settings(bnid="127.0.0.1:0")  # type: ignore[call-arg]
    Settings(drain_s="20")  # type: ignore[arg-type]
    settings.drain_s = 1.0  # type: ignore[misc]
    TokenDelta("1", "text")  # type: ignore[arg-type]
    Capabilities(1, 16, "exact")  # type: ignore[arg-type]
    Output(job.key, finish="done")  # type: ignore[arg-type]
    job.epoch  # type: ignore[attr-defined]  # noqa: B018
