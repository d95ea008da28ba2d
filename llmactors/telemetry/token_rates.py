"""How many tokens each model of a node makes in a second."""

from collections import deque

import trio

from llmactors.telemetry.metrics import Metrics

SAMPLES = 6
"""The number of samples, which are taken once a second."""


class TokenRates:
    """The rates over the last seconds. A task must run `run`."""

    def __init__(self, metrics: Metrics) -> None:
        self._models = metrics.models
        self._samples: deque[tuple[float, dict[str, int]]] = deque(maxlen=SAMPLES)

    def __repr__(self) -> str:
        return f"<TokenRates of {len(self._samples)} samples>"

    async def run(self) -> None:
        """Takes a sample every second, until cancelled."""
        while True:
            self.sample(trio.current_time())
            await trio.sleep(1.0)

    def sample(self, now: float) -> None:
        """Remembers how many tokens each model has made so far. `now` is in seconds."""
        self._samples.append((now, self._models.made_tokens()))

    def per_s(self, model: str) -> float:
        """The tokens of a model in a second; 0 while too little is known."""
        if len(self._samples) < 2:
            return 0.0
        (begin, before), (end, after) = self._samples[0], self._samples[-1]
        return (after.get(model, 0) - before.get(model, 0)) / (end - begin) if end > begin else 0.0
