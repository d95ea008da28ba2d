"""Three small backends of one's own; see `llmactors/backends/custom/CUSTOM.md`."""

from collections.abc import AsyncGenerator, Iterator, Sequence

import trio

from llmactors.backends.base import Capabilities, Job, Output, Takeover
from llmactors.messages import TokenDelta


def shout(prompts: Sequence[str], max_tokens: int) -> Iterator[list[str | None]]:
    """A plain function over a batch: one piece of text per prompt and step, and None once an answer has ended."""
    answers = [prompt.upper().split() for prompt in prompts]
    for step in range(max_tokens):
        yield [f"{words[step]} " if step < len(words) else None for words in answers]


class Loud:
    """The same as a class, which can load a model first, in a thread."""

    def __init__(self, mark: str = "!") -> None:
        self.mark = mark

    def __call__(self, prompts: Sequence[str], max_tokens: int) -> Iterator[list[str | None]]:
        for step in shout(prompts, max_tokens):
            yield [word and word.strip() + self.mark for word in step]


class Countdown:
    """A streaming backend: counts down from `start`, and continues an answer that another backend began."""

    def __init__(self, start: int = 10) -> None:
        self._from = start
        self.capabilities = Capabilities(slots=8, context_tokens=4096, takeover=Takeover.EXACT)

    async def start(self) -> None: ...
    async def check(self) -> None: ...
    async def close(self) -> None: ...

    async def generate(self, job: Job) -> AsyncGenerator[Output, None]:
        last = min(self._from + 1, job.request.max_tokens)
        for made in range(len(job.tokens) + 1, last + 1):
            await trio.sleep(0.001)
            number = self._from + 1 - made
            finish = None if made < last else "stop" if number == 0 else "length"
            yield Output(job.key, [TokenDelta(number, f"{number} ")], finish, len(job.request.prompt.split()))  # type: ignore[arg-type]
