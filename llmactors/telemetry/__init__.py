"""Metrics for Prometheus, logs on stderr, and what both say about a supervision tree.

metrics      the metrics of a node, and the methods that write them
model_metrics   the metrics that have a label `model`
ledger_metrics  the metrics of the whole ledger, which one node of a cluster shows
instruments  declares metrics in a registry
histograms   histograms with labels that cost little to write to
exposition   what prometheus_client lacks: a text without `_created` series, and callbacks before each scrape
history      the figures of the last hour; pure
restarts     the newest restarts of actors
token_rates  how many tokens each model makes in a second
recent       percentiles and maxima of the recent past; pure
logs         sets up logging, as JSON lines or as lines for people
bounded_log  a logger that leaves lines out when too many come at once
line_writer  writes lines in a thread, bounded, and counts the lines that were dropped
standard_streams  queues standard output and standard error
redaction    removes prompts and secrets from log lines; pure
stall        measures how long the event loop keeps tasks waiting
thread_time  how much CPU time a thread got and wanted, and what that says of a stall
busy_task    names the task that keeps the event loop busy
tracing/     traces of requests
tree         logs and counts what happens in a supervision tree

Code that measures something is given a `Metrics`, and calls one of its methods.
"""

from llmactors.telemetry.logs import configure_logging, get_logger, log_failures, queue_output
from llmactors.telemetry.metrics import Metrics
from llmactors.telemetry.stall import watch_event_loop

__all__ = ["Metrics", "configure_logging", "get_logger", "log_failures", "queue_output", "watch_event_loop"]
