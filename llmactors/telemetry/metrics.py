"""The metrics of one node, but for those of models (`model_metrics.py`) and of the ledger (`ledger_metrics.py`).

Each metric is declared once, in the `__init__` of its class, and written by a method of that class. Dashboards and
alerts use these names. `llm_gateway_…` and `llm_worker_…` are the names of an older system, kept to the letter; new
names start with `llmactors_`. A label has few values, and none that a client chooses.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Literal

import attrs
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, CollectorRegistry, ProcessCollector, generate_latest

from llmactors import __version__, errors
from llmactors.telemetry.exposition import BeforeScrape, WithoutCreated
from llmactors.telemetry.history import Counts
from llmactors.telemetry.instruments import LONG_SECONDS, SHORT_SECONDS, SIZES, Instruments
from llmactors.telemetry.ledger_metrics import LedgerMetrics
from llmactors.telemetry.model_metrics import ModelMetrics
from llmactors.telemetry.recent import RecentMaximum, RecentPercentiles
from llmactors.telemetry.standard_streams import dropped_lines

_PERCENTILES = {"p50": 0.50, "p95": 0.95, "p99": 0.99}


class Metrics:
    """Everything that a node counts and measures.

    Args:
        registry: The registry that the metrics are put into; by default a new one, never the process-wide one. A
            registry takes one `Metrics`. Only a new registry gets the metrics of the process, because another one may
            have them already.
        clock: Monotonic seconds, for the metrics of the recent past.
    """

    def __init__(  # noqa: PLR0915 - a statement for each metric
        self, registry: CollectorRegistry | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.registry = CollectorRegistry() if registry is None else registry
        if registry is None:
            ProcessCollector(registry=self.registry)
        self._clock = clock
        self._before_scrape = BeforeScrape()
        self.registry.register(self._before_scrape)
        self._before_scrape.add(self._set_recent)
        self._ended = 0
        """How many requests have ended."""
        self._refusals: Counter[str] = Counter()
        """How many of them ended in an error, by its code."""
        self._latencies = RecentPercentiles()
        self._stalls_of_late = RecentMaximum()
        new = Instruments(self.registry)

        # Requests, as the gateway sees them.
        self._requests = new.counters("llm_gateway_request_count", "Requests answered, by HTTP status.", "status")
        self._routes = new.counters(
            "llmactors_http_requests", "HTTP requests, by the path in the table of routes.", "route"
        )
        self._errors = new.counters("llm_gateway_errors", "Requests that ended in an error, by its code.", "code")
        self._in_flight = new.gauge("llm_gateway_inflight_requests", "Requests that are being answered now.")
        self._latency = new.histogram(
            "llm_gateway_request_latency_seconds", "The time from a request to the end of its answer.", LONG_SECONDS
        )
        self._latency_percentiles = [
            new.gauge(
                f"llm_gateway_request_latency_{name}_seconds",
                f"The {name} latency of the last 1024 requests, or of the last 5 minutes if those had fewer.",
            )
            for name in _PERCENTILES
        ]
        self._sent_tokens = new.counter("llm_gateway_tokens_generated", "Tokens that were sent to clients.")
        self._limited = new.counters("llmactors_limited", "Requests that a limit of their caller refused.", "limit")

        # Batches and steps, as the worker sees them.
        self._formed = new.histogram("llm_gateway_batch_size", "The number of requests in a batch that formed.", SIZES)
        self._stepped = new.histogram("llm_worker_batch_size", "The number of sequences in a decode step.", SIZES)
        self._made_tokens = new.counter("llm_worker_tokens_generated", "Tokens that backends produced.")
        self._worker_errors = new.counter("llm_worker_errors", "Failures of backends, and of requests in them.")
        self._preemptions = new.counter(
            "llmactors_preemptions", "Requests that gave up their slots to requests of more urgent classes."
        )
        self._model_loads = new.counters(
            "llmactors_model_loads", "Loads of models on demand, by outcome: loaded or failed.", "outcome"
        )

        self._upstreams = new.gauges(
            "llmactors_upstream_up", "1 while the upstream gets requests, 0 while its circuit is open.", "upstream"
        )
        self._upstream_tries = new.totals(
            "llmactors_upstream_tries", "Requests that were sent to the upstream, by outcome.", "upstream", "outcome"
        )
        self._upstream_hedges = new.totals(
            "llmactors_upstream_hedges",
            "Requests that were sent to the upstream because another upstream was late, by outcome.",
            "upstream",
            "outcome",
        )
        self._upstream_failovers = new.totals(
            "llmactors_upstream_failovers",
            "Requests that went from the upstream to another one, by the fault.",
            "upstream",
            "reason",
        )

        # The actor runtime.
        self._starts = new.counters("llmactors_actor_starts", "Incarnations of the actor that were started.", "actor")
        self._restarts = new.counters("llmactors_actor_restarts", "Restarts of the actor by its supervisor.", "actor")
        self._dead_letters = new.counters("llmactors_dead_letters", "Actor messages that were given up.", "reason")
        self._depth = new.gauges("llmactors_mailbox_depth", "Messages that wait in the actor's mailbox.", "actor")
        self._peak = new.gauges("llmactors_mailbox_peak", "The most messages that ever waited in the mailbox.", "actor")
        self._stalls = new.histogram(
            "llmactors_event_loop_stall_seconds",
            "The longest that the event loop kept a task waiting, about twenty times a second while it has work.",
            SHORT_SECONDS,
        )
        self._worst_stall = new.gauge(
            "llmactors_event_loop_stall_seconds_max", "The longest stall of the last one to two minutes."
        )
        self._tasks = new.gauge("llmactors_tasks", "Trio tasks that live in the process.")
        new.gauges("llmactors_build_info", "The version of llmactors; the value is always 1.", "version").of(
            __version__
        ).set(1)

        self._dropped_lines = new.totals(
            "llmactors_output_lines_dropped",
            "Lines that were dropped, because nobody read this output or its disk is full.",
            "stream",
        )

        self._ready = new.gauge("llmactors_ready", "1 while /readyz answers with status 200, else 0.")
        self._draining = new.gauge("llmactors_draining", "1 while the node drains, else 0.")

        # Models, and the ledger.
        self.models = ModelMetrics(new)
        self.ledger = LedgerMetrics()
        self.registry.register(self.ledger)
        self._given_up = new.counter(
            "llmactors_ledger_given_up", "Requests that became dead letters, counted by the node that logged them."
        )

        # Redis.
        self._redis_up = new.gauges("llmactors_redis_up", "1 while the link to Redis is up, else 0.", "link")
        self._redis_in_flight = new.gauges(
            "llmactors_redis_commands_in_flight", "Commands that have no reply yet.", "link"
        )
        self._redis_queued = new.gauges(
            "llmactors_redis_queued_bytes", "Bytes of commands that the socket has not taken yet.", "link"
        )
        self._redis_round_trips = new.histograms(
            "llmactors_redis_round_trip_seconds", "The time of a probe's round trip to Redis.", SHORT_SECONDS, "link"
        )
        self._redis_connects = new.totals("llmactors_redis_connects", "Connections that were made to Redis.", "link")
        self._redis_commands = new.totals("llmactors_redis_commands", "Commands that the link accepted.", "link")
        self._redis_unknown = new.totals(
            "llmactors_redis_unknown_outcomes", "Commands that lost their connection before the reply.", "link"
        )
        self._redis_refused = new.totals(
            "llmactors_redis_commands_refused", "Commands that the link refused because too many waited.", "link"
        )

        self._redis_error_replies = new.totals(
            "llmactors_redis_error_replies", "Error replies of Redis, by the kind of the error.", "kind"
        )
        self._redis_available = new.gauge("llmactors_redis_available", "1 while Redis serves this node, else 0.")
        self._redis_outages = new.totals(
            "llmactors_redis_outages", "Outages of Redis, by their first reason.", "reason"
        )
        self._redis_outage_s = new.total("llmactors_redis_outage_seconds", "The time of all outages of Redis.")
        self._redis_losses = new.totals(
            "llmactors_redis_losses", "Requests of which Redis has lost what it had acknowledged.", "outcome"
        )
        self._redis_wrong = new.gauges(
            "llmactors_redis_wrong_settings", "1 for a setting under which Redis can lose requests.", "setting"
        )

        self._spans = new.totals("llmactors_trace_spans", "Spans of traces, by what became of them.", "outcome")

        # Every code and every outcome exists from the start, so that a rate over the counter sees the first one.
        for outcome in ("loaded", "failed"):
            self._model_loads.of(outcome)
        self._codes = errors.codes()
        for code in sorted(self._codes):
            self._errors.of(code)

    def __repr__(self) -> str:
        return f"<Metrics {self._latencies!r}>"

    # Requests, as the gateway sees them.

    def request_started(self) -> None:
        """Counts a request that is being answered."""
        self._in_flight.inc()

    def request_finished(self, status: int, latency_s: float, code: str | None = None, model: str = "") -> None:
        """Counts a request that has ended, `latency_s` seconds after its start; a stream ends with its last byte.

        Args:
            status: The HTTP status of the answer.
            latency_s: The time from the request to the end of its answer.
            code: The code of the error that ended the request, also after a status of 200. A code that `errors` does
                not declare counts as INTERNAL.
            model: The model of an admitted request; empty for every other request.
        """
        self._in_flight.dec()
        self._requests.of(status).inc()
        self._latency.observe(latency_s)
        self._latencies.add(latency_s, self._clock())
        if model:
            self.models.answers(model).request_s.observe(latency_s)
        self._ended += 1
        if code is not None:
            told = code if code in self._codes else errors.LlmactorsError.code
            self._errors.of(told).inc()
            self._refusals[told] += 1

    def route_used(self, route: str) -> None:
        """Counts an HTTP request by its path in the table of routes, as in `/v1/streams/{id}`; `none` for no route."""
        self._routes.of(route).inc()

    def limited(self, limit: str) -> None:
        """Counts a request that a limit of this kind refused."""
        self._limited.of(limit).inc()

    def tokens_generated(self, count: int) -> None:
        """Counts tokens that were sent to clients. Called once per write, not once per token."""
        self._sent_tokens.inc(count)

    # Batches and steps, as the worker sees them.

    def batch(self, size: int) -> None:
        """Observes a batch of `size` requests."""
        self._formed.observe(size)

    def step(self, size: int, tokens: int) -> None:
        """Observes a decode step of `size` sequences that produced `tokens` tokens."""
        self._stepped.observe(size)
        self._made_tokens.inc(tokens)

    def worker_error(self) -> None:
        """Counts a backend that crashed or hung, or a request that failed in a backend."""
        self._worker_errors.inc()

    def preempted(self) -> None:
        """Counts a request that gave up its slot to a request of a more urgent class."""
        self._preemptions.inc()

    def model_load(self, outcome: Literal["loaded", "failed"]) -> None:
        """Counts the end of a load of a model that is loaded on demand."""
        self._model_loads.of(outcome).inc()

    # The actor runtime.

    def actor_started(self, actor: str) -> None:
        """Counts an incarnation that is up, the first one included."""
        self._starts.of(actor).inc()

    def actor_restarted(self, actor: str) -> None:
        """Counts a restart that a supervisor has decided on."""
        self._restarts.of(actor).inc()

    def dead_letter(self, reason: str) -> None:
        """Counts a message that was given up for one of the runtime's reasons."""
        self._dead_letters.of(reason).inc()

    def mailbox(self, actor: str, *, depth: int, peak: int) -> None:
        """Shows an actor's mailbox in this scrape. Call this for each actor from an `on_scrape` callback."""
        self._depth.of(actor).set(depth)
        self._peak.of(actor).set(peak)

    def event_loop_late(self, late_s: float) -> None:
        """Observes that the event loop kept a task waiting for `late_s` seconds."""
        self._stalls.observe(late_s)
        self._stalls_of_late.add(late_s, self._clock())

    def tasks(self, living: int) -> None:
        """Shows how many Trio tasks live in this scrape. Call this from an `on_scrape` callback."""
        self._tasks.set(living)

    def upstream(
        self,
        url: str,
        *,
        up: bool,
        tries: Mapping[str, int],
        hedges: Mapping[str, int],
        failovers: Mapping[str, int],
    ) -> None:
        """Shows the upstream at `url`. Call this from an `on_scrape` callback.

        Args:
            url: The URL of the upstream.
            up: Whether the upstream gets requests.
            tries: How many requests it got so far, by outcome.
            hedges: How many of them it got because another upstream was late, by outcome.
            failovers: How many requests went on to another upstream, by the fault.
        """
        self._upstreams.of(url).set(up)
        for totals, counts in (
            (self._upstream_tries, tries),
            (self._upstream_hedges, hedges),
            (self._upstream_failovers, failovers),
        ):
            for label, count in counts.items():
                totals.of(url, label).rise_to(count)

    def node_state(self, *, ready: bool, draining: bool) -> None:
        """Shows whether the node is ready, and whether it drains. Call this before each scrape."""
        self._ready.set(ready)
        self._draining.set(draining)

    # Dead letters, and the links to Redis.

    def request_given_up(self) -> None:
        """Counts a request that became a dead letter."""
        self._given_up.inc()

    def redis_link(
        self,
        link: str,
        *,
        up: bool,
        in_flight: int,
        queued_bytes: int,
        connects: int,
        commands: int,
        unknown: int,
        overflows: int,
    ) -> None:
        """Shows the statistics of one link to Redis. Call this from an `on_scrape` callback."""
        self._redis_up.of(link).set(up)
        self._redis_in_flight.of(link).set(in_flight)
        self._redis_queued.of(link).set(queued_bytes)
        self._redis_connects.of(link).rise_to(connects)
        self._redis_commands.of(link).rise_to(commands)
        self._redis_unknown.of(link).rise_to(unknown)
        self._redis_refused.of(link).rise_to(overflows)

    def redis_round_trip(self, link: str, seconds: float) -> None:
        """Observes the round trip of a probe over a link to Redis."""
        self._redis_round_trips.of(link).observe(seconds)

    def redis_health(
        self,
        *,
        available: bool,
        outages: Mapping[str, int],
        outage_s: float,
        error_replies: Mapping[str, int],
        wrong_settings: Iterable[str],
        losses: Mapping[str, int],
    ) -> None:
        """Shows whether Redis serves this node, the outages so far by their reason, the error replies by kind, and what
        became of the requests of which Redis has lost something.

        Call this from an `on_scrape` callback.
        """
        self._redis_available.set(available)
        for reason, count in outages.items():
            self._redis_outages.of(reason).rise_to(count)
        self._redis_outage_s.rise_to(outage_s)
        for kind, count in error_replies.items():
            self._redis_error_replies.of(kind).rise_to(count)
        for outcome, count in losses.items():
            self._redis_losses.of(outcome).rise_to(count)
        self._redis_wrong.clear()
        for setting in wrong_settings:
            self._redis_wrong.of(setting).set(1)

    def counts(self) -> Counts:
        """What this node has counted so far, for the history."""
        return attrs.evolve(self.models.counts(), requests=self._ended, refusals=dict(self._refusals))

    @property
    def worst_stall_s(self) -> float:
        """The longest stall of the event loop in the last one to two minutes."""
        return self._stalls_of_late.value(self._clock())

    # Traces.

    def spans(self, **totals: int) -> None:
        """Shows how many spans had each outcome so far. Call this from an `on_scrape` callback."""
        for outcome, total in totals.items():
            self._spans.of(outcome).rise_to(total)

    # Scraping.

    def on_scrape(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Calls `callback` at each scrape, to show what is known only then. Returns a function that ends this.

        The callback must not block. An exception of the callback is logged, and the scrape goes on.
        """
        return self._before_scrape.add(callback)

    def render(self) -> tuple[bytes, str]:
        """The metrics in Prometheus's text format, version 0.0.4, and the content type."""
        return generate_latest(WithoutCreated(self.registry)), CONTENT_TYPE_PLAIN_0_0_4

    def _set_recent(self) -> None:
        now = self._clock()
        for stream, dropped in dropped_lines().items():
            self._dropped_lines.of(stream).rise_to(dropped)
        values = self._latencies.percentiles(tuple(_PERCENTILES.values()), now)
        for gauge, value in zip(self._latency_percentiles, values, strict=True):
            gauge.set(value)
        self._worst_stall.set(self._stalls_of_late.value(now))
        # The callbacks that follow show the mailboxes that exist now; the others must not stay.
        self._depth.clear()
        self._peak.clear()
