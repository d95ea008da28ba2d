"""The metrics of each model: `ModelMetrics` has them for all models, and its methods return those of one model.

A label `model` only ever has the name of a model that the node knows. A node that gets to know more models than
`MODELS_MAX` counts the others together, as `other`.
"""

from collections.abc import Iterable, Mapping

from llmactors.telemetry.histograms import BucketCounts
from llmactors.telemetry.history import Counts
from llmactors.telemetry.instruments import GAP_SECONDS, LONG_SECONDS, Instruments

MODELS_MAX = 256
_OTHER = "other"


class AnswerMetrics:
    """What a gateway measures of the answers of one model."""

    def __init__(self, request: BucketCounts, ttft: BucketCounts, inter_token: BucketCounts) -> None:
        self.request_s = request
        """From a request to the end of its answer."""
        self._ttft_s = ttft
        self._inter_token_s = inter_token

    def stream(self, begun: float | None) -> "StreamTimes":
        """Measures one stream. `begun` is the time of the request; None for a stream that a client follows again."""
        return StreamTimes(self._ttft_s, self._inter_token_s, begun)


class StreamTimes:
    """Measures when the tokens of one stream are written to its client."""

    __slots__ = ("_begun", "_inter_token_s", "_ttft", "_ttft_s", "_wrote_at", "have_begun")

    def __init__(self, ttft: BucketCounts, inter_token: BucketCounts, begun: float | None) -> None:
        self._ttft_s = ttft
        self._inter_token_s = inter_token
        self._begun = begun
        self.have_begun = False
        """Whether a token was written."""
        self._wrote_at = 0.0
        self._ttft: float | None = None

    def ttft(self) -> float | None:
        """The time from the request to the write of its first token, in seconds.

        None before that write, and for a stream that a client follows again.
        """
        return self._ttft

    def wrote(self, tokens: int, now: float) -> None:
        """Notes that `tokens` tokens, at least one, were written at `now`. Call this once for each write.

        A write of several tokens counts each of them with an equal part of the time since the write before.
        """
        before, self._wrote_at = self._wrote_at, now
        if self.have_begun:
            self._inter_token_s.observe((now - before) / tokens, tokens)
            return
        self.have_begun = True
        if self._begun is not None:
            self._ttft = now - self._begun
            self._ttft_s.observe(self._ttft)


class WorkMetrics:
    """What a worker measures of its work for one model."""

    def __init__(self, model: str, of_all: "ModelMetrics") -> None:
        self._model = model
        self._of_all = of_all
        self.made_tokens = 0
        """How many tokens the backends of the model have made."""
        self._waits: dict[int, BucketCounts] = {}
        self._made = of_all.completion_tokens.of(model)
        self._prompts = of_all.prompt_tokens.of(model)
        self._cached = of_all.cached_tokens.of(model)

    def claimed(self, priority: int, waited_s: float) -> None:
        """Observes how long a request of this class waited in the queue before its claim."""
        series = self._waits.get(priority)
        if series is None:
            series = self._waits[priority] = self._of_all.waits.of(self._model, str(priority))
        series.observe(waited_s)

    def took_over(self, cause: str) -> None:
        """Counts a claim of a request whose log had tokens. `cause` says how the claim before ended."""
        self._of_all.takeovers.of(self._model, cause).inc()

    def made(self, tokens: int) -> None:
        """Counts tokens that the backend made. Call this once for each step, not once for each token."""
        self._made.inc(tokens)
        self.made_tokens += tokens

    def read_prompt(self, tokens: int, cached: int) -> None:
        """Counts the prompt of an answer that has ended. The backend read `cached` of its tokens from a cache."""
        self._prompts.inc(tokens)
        self._cached.inc(cached)


class ModelMetrics:
    """The metrics with a label `model`."""

    def __init__(self, new: Instruments) -> None:
        self._names: set[str] = set()
        self._answers: dict[str, AnswerMetrics] = {}
        self._work: dict[str, WorkMetrics] = {}

        # Answers, as the gateway sees them.
        self._request_s = new.histograms(
            "llmactors_request_seconds",
            "The time from an admitted request to the end of its answer.",
            LONG_SECONDS,
            "model",
        )
        self._ttft_s = new.histograms(
            "llmactors_ttft_seconds", "The time from a request to its first token.", LONG_SECONDS, "model"
        )
        self._inter_token_s = new.histograms(
            "llmactors_inter_token_seconds",
            "The time between two tokens that were written to a client.",
            GAP_SECONDS,
            "model",
        )
        self._accepted = new.gauges(
            "llmactors_model_accepted", "1 while this gateway accepts requests for the model, else 0.", "model"
        )

        # Work, as the worker sees it.
        self.waits = new.histograms(
            "llmactors_batch_wait_seconds",
            "The time that a request waited in the queue.",
            LONG_SECONDS,
            "model",
            "class",
        )
        self.prompt_tokens = new.counters(
            "llmactors_prompt_tokens", "Tokens of the prompts of answers that ended.", "model"
        )
        self.cached_tokens = new.counters(
            "llmactors_cached_prompt_tokens", "Tokens of prompts that a backend read from its cache.", "model"
        )
        self.completion_tokens = new.counters("llmactors_completion_tokens", "Tokens that backends made.", "model")
        self.takeovers = new.counters(
            "llmactors_takeovers", "Claims of requests whose logs had tokens, by the cause.", "model", "cause"
        )
        self._slots = new.gauges("llmactors_slots", "How many requests the model's backend can run.", "model")
        self._busy = new.gauges("llmactors_slots_busy", "How many requests the model's backend holds.", "model")
        self._states = new.gauges(
            "llmactors_model_state",
            "1 for the state of the model at this worker, 0 for the other states.",
            "model",
            "state",
        )
        self._upstreams = new.gauges("llmactors_upstreams", "Upstreams of the model, by state.", "model", "state")

    def answers(self, model: str) -> AnswerMetrics:
        """The metrics of the answers of one model, at a gateway."""
        found = self._answers.get(model)
        if found is None:
            name = self._known(model)
            series = self._request_s.of(name), self._ttft_s.of(name), self._inter_token_s.of(name)
            found = AnswerMetrics(*series)
            if name == model:
                self._answers[model] = found
        return found

    def work(self, model: str) -> WorkMetrics:
        """The metrics of the work for one model, at a worker."""
        found = self._work.get(model)
        if found is None:
            name = self._known(model)
            found = WorkMetrics(name, self)
            if name == model:
                self._work[model] = found
        return found

    def counts(self) -> Counts:
        """What the metrics of all models have counted so far, for the history."""
        return Counts(
            tokens=sum(work.made_tokens for work in self._work.values()),
            ttft=self._ttft_s.total(),
            inter_token=self._inter_token_s.total(),
            queue_wait=self.waits.total(),
        )

    def made_tokens(self) -> dict[str, int]:
        """How many tokens the backends of each model have made on this node."""
        return {model: work.made_tokens for model, work in self._work.items()}

    def show_accepted(self, model: str, *, accepted: bool) -> None:
        """Shows whether this gateway accepts requests for the model. Call this from an `on_scrape` callback."""
        self._accepted.of(self._known(model)).set(accepted)

    def show_state(self, model: str, state: str, states: Iterable[str], *, slots: int, busy: int) -> None:
        """Shows the model of a worker: its state among all `states`, its slots, and how many of them hold a request.

        Call this from an `on_scrape` callback.
        """
        name = self._known(model)
        for each in states:
            self._states.of(name, each).set(each == state)
        self._slots.of(name).set(slots)
        self._busy.of(name).set(busy)

    def show_upstreams(self, model: str, counts: Mapping[str, int]) -> None:
        """Shows how many upstreams of the model are in each state. Call this from an `on_scrape` callback."""
        for state, count in counts.items():
            self._upstreams.of(self._known(model), state).set(count)

    def _known(self, model: str) -> str:
        """The label of a model: its name, or `other` where too many models have a name here."""
        if model not in self._names:
            if len(self._names) >= MODELS_MAX:
                return _OTHER
            self._names.add(model)
        return model
