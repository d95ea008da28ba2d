"""The metrics of one node, under the names that dashboards and alerts are built on.

`llm_gateway_…` and `llm_worker_…` are an older system's names, kept to the letter; ours start with `llmactors_`.
Labels have few values and never come from a client. Whoever calls a method needs not know a metric's name.
"""

import time
from collections.abc import Callable, Iterable, Mapping

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from llmactors import __version__, errors
from llmactors.telemetry.exposition import BeforeScrape, WithoutCreated
from llmactors.telemetry.recent import RecentMaximum, RecentPercentiles

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
_SHORT_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_PERCENTILES = {"p50": 0.50, "p95": 0.95, "p99": 0.99}


class Metrics:
    """All that a node counts and measures.

    Args:
        registry: Where the metrics are registered; a new one by default, never the process-wide one. One registry
            takes one `Metrics`.
        clock: Seconds, monotonic: what "recent" is measured by.
    """

    def __init__(
        self, registry: CollectorRegistry | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.registry = registry or CollectorRegistry()
        self._clock = clock
        self._before_scrape = BeforeScrape()
        self.registry.register(self._before_scrape)
        self._gateway = _GatewayMetrics(self.registry)
        self._worker = _WorkerMetrics(self.registry)
        self._runtime = _RuntimeMetrics(self.registry)
        self._ledger = _LedgerMetrics(self.registry)
        self._redis = _RedisMetrics(self.registry)
        self._latencies = RecentPercentiles()
        self._worst_stall = RecentMaximum()
        self._before_scrape.add(self._fill)

    # Requests, as the gateway sees them.

    def request_started(self) -> None:
        self._gateway.inflight.inc()

    def request_finished(self, status: int, latency_s: float, code: str | None = None) -> None:
        """A request has ended, `latency_s` after it started.

        Args:
            status: The HTTP status that it was answered with.
            latency_s: To its very end, streams too.
            code: The error that it ended with, also where that came after a status of 200. One that nobody declared
                in `errors` counts as INTERNAL.
        """
        gateway = self._gateway
        gateway.inflight.dec()
        gateway.of_status(status).inc()
        gateway.latency.observe(latency_s)
        self._latencies.add(latency_s, self._clock())
        if code is not None:
            gateway.of_code(code).inc()

    def limited(self, limit: str) -> None:
        """A caller was refused by a limit of this kind: one of a few names, not a caller's."""
        self._gateway.limited.labels(limit).inc()

    def first_token(self, ttft_s: float) -> None:
        """The first token went out to a client, so long after its request came."""
        self._gateway.ttft.observe(ttft_s)

    def tokens_generated(self, count: int) -> None:
        """So many tokens went out to clients. Call it once per write, not once per token."""
        self._gateway.tokens.inc(count)

    # Batches and steps, as the worker sees them.

    def batch(self, size: int, waits_s: Iterable[float] = ()) -> None:
        """A batch of `size` requests was formed, which had waited in the queue for `waits_s`."""
        self._gateway.batch_size.observe(size)
        for wait_s in waits_s:
            self._worker.batch_wait.observe(wait_s)

    def step(self, size: int, tokens: int) -> None:
        """A backend made `tokens` tokens in one decode step of `size` sequences."""
        self._worker.batch_size.observe(size)
        self._worker.tokens.inc(tokens)

    def worker_error(self) -> None:
        """A backend crashed, hung, or failed one request."""
        self._worker.errors.inc()

    # The actor runtime.

    def actor_started(self, actor: str) -> None:
        """An incarnation is up, the first or a later one."""
        self._runtime.starts.labels(actor).inc()

    def actor_restarted(self, actor: str) -> None:
        """A supervisor decided to start it again."""
        self._runtime.restarts.labels(actor).inc()

    def dead_letter(self, reason: str) -> None:
        """A message was given up. `reason` is one of the runtime's few, not a text."""
        self._runtime.dead_letters.labels(reason).inc()

    def mailbox(self, actor: str, *, depth: int, peak: int) -> None:
        """To be called from an `on_scrape` callback, for each actor that there is: others are forgotten."""
        self._runtime.mailbox_depth.labels(actor).set(depth)
        self._runtime.mailbox_peak.labels(actor).set(peak)

    def event_loop_late(self, late_s: float) -> None:
        """A task that asked to be woken was woken so much later."""
        self._runtime.stalls.observe(late_s)
        self._worst_stall.add(late_s, self._clock())

    # The ledger.

    def ledger(self, *, queued: int, running: int, ended: int, requeued_total: int, fenced_total: int) -> None:
        """The ledger's statistics. To be called from an `on_scrape` callback, or before `render`."""
        self._ledger.set_states(queued=queued, running=running, ended=ended)
        self._ledger.requeued.rise_to(requeued_total)
        self._ledger.fenced.rise_to(fenced_total)

    # Redis.

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
        """The statistics of one link to Redis, under one of few names. To be called from an `on_scrape` callback."""
        gauges = {"up": up, "in_flight": in_flight, "queued_bytes": queued_bytes}
        totals = {"connects": connects, "commands": commands, "unknown": unknown, "overflows": overflows}
        self._redis.show(link, gauges, totals)

    # Scraping.

    def on_scrape(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Has `callback` called at each scrape, to fill in what is known only then. Returns what removes it again.

        It must not block. What it raises is logged, and the scrape goes on.
        """
        return self._before_scrape.add(callback)

    def render(self) -> tuple[bytes, str]:
        """The body and the content type of an answer to Prometheus: its text format, version 0.0.4."""
        return generate_latest(WithoutCreated(self.registry)), CONTENT_TYPE_PLAIN_0_0_4

    def __repr__(self) -> str:
        return f"<Metrics {self._latencies!r}>"

    def _fill(self) -> None:
        now = self._clock()
        values = self._latencies.percentiles(tuple(_PERCENTILES.values()), now)
        for gauge, value in zip(self._gateway.latency_percentiles, values, strict=True):
            gauge.set(value)
        self._runtime.worst_stall.set(self._worst_stall.value(now))
        self._runtime.mailbox_depth.clear()
        self._runtime.mailbox_peak.clear()


class _GatewayMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "llm_gateway_request_count", "Requests answered, by HTTP status.", ["status"], registry=registry
        )
        self._errors = Counter("llm_gateway_errors", "Requests that ended in an error.", ["code"], registry=registry)
        self.limited = Counter(
            "llmactors_limited", "Requests refused by what their callers may use.", ["limit"], registry=registry
        )
        self.inflight = Gauge("llm_gateway_inflight_requests", "Requests being answered.", registry=registry)
        self.batch_size = Histogram(
            "llm_gateway_batch_size", "Requests per batch formed.", buckets=_SIZES, registry=registry
        )
        self.latency = Histogram(
            "llm_gateway_request_latency_seconds",
            "From a request to the end of its answer.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.latency_percentiles = [
            Gauge(
                f"llm_gateway_request_latency_{name}_seconds",
                f"Latency, {name} of the last 1024 requests or 5 minutes, whichever are fewer.",
                registry=registry,
            )
            for name in _PERCENTILES
        ]
        self.tokens = Counter("llm_gateway_tokens_generated", "Tokens sent to clients.", registry=registry)
        self.ttft = Histogram(
            "llmactors_ttft_seconds", "From a request to its first token.", buckets=_SECONDS, registry=registry
        )
        # Children are looked up once. All codes exist from the beginning, so that a rate sees the first error.
        self._by_status: dict[int, Counter] = {}
        self._by_code = {code: self._errors.labels(code) for code in sorted(_codes(errors.LlmactorsError))}

    def of_status(self, status: int) -> Counter:
        child = self._by_status.get(status)
        if child is None:
            child = self._by_status[status] = self._requests.labels(str(status))
        return child

    def of_code(self, code: str) -> Counter:
        return self._by_code.get(code) or self._by_code[errors.LlmactorsError.code]


class _WorkerMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self.batch_size = Histogram(
            "llm_worker_batch_size", "Sequences per decode step.", buckets=_SIZES, registry=registry
        )
        self.tokens = Counter("llm_worker_tokens_generated", "Tokens that backends made.", registry=registry)
        self.errors = Counter("llm_worker_errors", "Failures of backends.", registry=registry)
        self.batch_wait = Histogram(
            "llmactors_batch_wait_seconds",
            "From the queue to the batch, per request.",
            buckets=_SHORT_SECONDS,
            registry=registry,
        )


class _RuntimeMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self.starts = Counter("llmactors_actor_starts", "Incarnations started.", ["actor"], registry=registry)
        self.restarts = Counter("llmactors_actor_restarts", "Restarts by supervisors.", ["actor"], registry=registry)
        self.dead_letters = Counter("llmactors_dead_letters", "Messages given up.", ["reason"], registry=registry)
        self.mailbox_depth = Gauge("llmactors_mailbox_depth", "Messages waiting.", ["actor"], registry=registry)
        self.mailbox_peak = Gauge("llmactors_mailbox_peak", "Most messages ever waiting.", ["actor"], registry=registry)
        self.stalls = Histogram(
            "llmactors_event_loop_stall_seconds",
            "How late the event loop woke a sleeping task.",
            buckets=_SHORT_SECONDS,
            registry=registry,
        )
        self.worst_stall = Gauge(
            "llmactors_event_loop_stall_seconds_max", "The worst of the last one to two minutes.", registry=registry
        )
        Gauge("llmactors_build_info", "Always 1.", ["version"], registry=registry).labels(__version__).set(1)


class _LedgerMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = Gauge("llmactors_ledger_requests", "Requests known.", ["state"], registry=registry)
        self.requeued = _Total(
            Counter("llmactors_ledger_requeued", "Requests put back after a loss.", registry=registry)
        )
        self.fenced = _Total(Counter("llmactors_ledger_fenced", "Appends refused for an old epoch.", registry=registry))

    def set_states(self, **counts: int) -> None:
        for state, count in counts.items():
            self._requests.labels(state).set(count)


class _RedisMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        def gauge(name: str, text: str) -> Gauge:
            return Gauge(f"llmactors_redis_{name}", text, ["link"], registry=registry)

        def counter(name: str, text: str) -> Counter:
            return Counter(f"llmactors_redis_{name}", text, ["link"], registry=registry)

        self._gauges = {
            "up": gauge("up", "Whether the link to Redis is up."),
            "in_flight": gauge("commands_in_flight", "Commands without a reply."),
            "queued_bytes": gauge("queued_bytes", "Bytes of commands that the socket has not taken yet."),
        }
        self._counters = {
            "connects": counter("connects", "Connections made, the first one included."),
            "commands": counter("commands", "Commands accepted."),
            "unknown": counter("unknown_outcomes", "Commands that lost their connection before the reply."),
            "overflows": counter("commands_refused", "Commands refused because too many were waiting."),
        }
        self._totals: dict[tuple[str, str], _Total] = {}

    def show(self, link: str, gauges: Mapping[str, float], totals: Mapping[str, int]) -> None:
        for name, value in gauges.items():
            self._gauges[name].labels(link).set(value)
        for name, total in totals.items():
            if (link, name) not in self._totals:
                self._totals[link, name] = _Total(self._counters[name].labels(link))
            self._totals[link, name].rise_to(total)


class _Total:
    """A counter that follows a total kept elsewhere. When that begins anew, as after a restart, nothing is lost."""

    def __init__(self, counter: Counter) -> None:
        self._counter = counter
        self._last = 0

    def rise_to(self, total: int) -> None:
        self._counter.inc(total - self._last if total >= self._last else total)
        self._last = total


def _codes(error: type[errors.LlmactorsError]) -> set[str]:
    return {error.code}.union(*map(_codes, error.__subclasses__()))
