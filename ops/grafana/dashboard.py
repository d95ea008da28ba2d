"""The panels of the Grafana dashboard. `python -m ops.grafana.dashboard` writes `dashboards/llmactors.json` from them.

`just test-dashboards` runs every query against a Prometheus that scraped a cluster under load.
"""

import json
from pathlib import Path
from typing import Any

import attrs

FILE = Path(__file__).parent / "dashboards" / "llmactors.json"
_COLUMNS, _PANEL_WIDTH, _PANEL_HEIGHT = 24, 8, 8


@attrs.frozen
class Query:
    """One query of a panel. `{{label}}` in the legend stands for the value of a label."""

    expr: str
    legend: str


@attrs.frozen
class Panel:
    """One panel. `description` says what the figures mean, and what to look for."""

    title: str
    description: str
    unit: str
    queries: tuple[Query, ...]
    kind: str = "timeseries"
    stacked: bool = False


@attrs.frozen
class Row:
    """One row of the dashboard, with its panels from left to right."""

    title: str
    panels: tuple[Panel, ...]


def _quantiles(metric: str, by: str, legend: str, more: str = "") -> tuple[Query, ...]:
    """The median and the 99th percentile of a histogram, by a label."""
    selected = f'{metric}_bucket{{model=~"$model"{more}}}'
    return tuple(
        Query(
            f"histogram_quantile({share}, sum by ({by}, le) (rate({selected}[$__rate_interval])))", f"{legend} {name}"
        )
        for share, name in ((0.5, "p50"), (0.99, "p99"))
    )


def _rate(metric: str, by: str, selected: str = "") -> Query:
    """The rate of a counter by a label."""
    return Query(f"sum by ({by}) (rate({metric}{{{selected}}}[$__rate_interval]))", f"{{{{{by}}}}}")


_MODEL = 'model=~"$model"'
_NODE = 'instance=~"$instance"'

ROWS = (
    Row(
        "What users see",
        (
            Panel(
                "Requests by status",
                "Answers per second over all gateways, by HTTP status. A stream counts when it ends.",
                "reqps",
                (_rate("llm_gateway_request_count_total", "status"),),
                stacked=True,
            ),
            Panel(
                "Errors by code",
                "Answers per second that ended with an error. OVERLOADED and RATE_LIMITED are refusals. POISONED, "
                "BACKEND_FAILED, INTERRUPTED and INTERNAL are faults of the cluster.",
                "reqps",
                (_rate("llm_gateway_errors_total", "code"),),
            ),
            Panel(
                "Requests under way",
                "Requests that gateways answer now, waiting ones included.",
                "none",
                (Query(f"sum by (instance) (llm_gateway_inflight_requests{{{_NODE}}})", "{{instance}}"),),
                stacked=True,
            ),
            Panel(
                "Time to the first token",
                "From a request to the first token of its stream. Compare with the time in the queue below.",
                "s",
                _quantiles("llmactors_ttft_seconds", "model", "{{model}}"),
            ),
            Panel(
                "Time between tokens",
                "From one token of a stream to the next, as a client sees the tokens.",
                "s",
                _quantiles("llmactors_inter_token_seconds", "model", "{{model}}"),
            ),
            Panel(
                "Time of a whole answer",
                "From a request to the end of its answer. Long answers take long: compare with tokens per second.",
                "s",
                _quantiles("llmactors_request_seconds", "model", "{{model}}"),
            ),
            Panel(
                "Tokens to clients",
                "Tokens per second that gateways have sent.",
                "ops",
                (_rate("llm_gateway_tokens_generated_total", "instance", _NODE),),
                stacked=True,
            ),
            Panel(
                "Refused by a caller's limit",
                "Requests per second that got 429 because their caller had reached a limit, by the kind of limit.",
                "reqps",
                (_rate("llmactors_limited_total", "limit"),),
            ),
            Panel(
                "Requests by route",
                "Which API clients use.",
                "reqps",
                (_rate("llmactors_http_requests_total", "route"),),
                stacked=True,
            ),
        ),
    ),
    Row(
        "Queue",
        (
            Panel(
                "Waiting requests",
                "Requests that wait for a slot, by model and class. New requests get OVERLOADED when max_queued wait.",
                "none",
                (Query(f"max by (model, class) (llmactors_queue_requests{{{_MODEL}}})", "{{model}}, class {{class}}"),),
                stacked=True,
            ),
            Panel(
                "Oldest waiting request",
                "For how long the first request of each model and class has waited.",
                "s",
                (
                    Query(
                        f"max by (model, class) (llmactors_queue_oldest_seconds{{{_MODEL}}})",
                        "{{model}}, class {{class}}",
                    ),
                ),
            ),
            Panel(
                "Time in the queue",
                "For how long requests waited before a worker took them, by class.",
                "s",
                _quantiles("llmactors_batch_wait_seconds", "class", "class {{class}}"),
            ),
            Panel(
                "Requests in the ledger",
                "Requests by state. Ended requests stay for retention_s, so that clients can read their answers again.",
                "none",
                (Query("max by (state) (llmactors_ledger_requests)", "{{state}}"),),
            ),
            Panel(
                "Dead letters and quarantine",
                "Dead letters: requests that crashed their backend while they ran alone. Quarantine: requests that are "
                "suspected of this.",
                "none",
                (
                    Query("max(llmactors_ledger_dead_letters)", "dead letters"),
                    Query("max(llmactors_ledger_quarantined)", "in quarantine"),
                ),
            ),
            Panel(
                "Workers that the autoscaler wants",
                "The three figures that KEDA scales by. The greatest of them counts.",
                "none",
                (
                    Query("cluster:llmactors_workers_wanted:by_age", "by the age of the queue"),
                    Query("cluster:llmactors_workers_wanted:by_cost", "by the cost of the queue"),
                    Query("cluster:llmactors_workers_wanted:by_loads", "held while a worker loads"),
                    Query("cluster:llmactors_workers:count", "workers now"),
                ),
            ),
        ),
    ),
    Row(
        "Models",
        (
            Panel(
                "Slots",
                "Slots that hold a request, and all slots. Where all are busy, requests wait.",
                "none",
                (
                    Query(f"sum by (model) (llmactors_slots_busy{{{_MODEL}}})", "{{model}} busy"),
                    Query(f"sum by (model) (llmactors_slots{{{_MODEL}}})", "{{model}} all"),
                ),
            ),
            Panel(
                "Tokens in and out",
                "Tokens per second: of prompts whose answers have ended, and of answers as they are made.",
                "ops",
                (
                    Query(
                        f"sum by (model) (rate(llmactors_prompt_tokens_total{{{_MODEL}}}[$__rate_interval]))",
                        "{{model}} in",
                    ),
                    Query(
                        f"sum by (model) (rate(llmactors_completion_tokens_total{{{_MODEL}}}[$__rate_interval]))",
                        "{{model}} out",
                    ),
                ),
            ),
            Panel(
                "Prompt tokens from a cache",
                "The part of all prompt tokens that a backend had in its cache. Conversations raise this part.",
                "percentunit",
                (
                    Query(
                        f"sum by (model) (rate(llmactors_cached_prompt_tokens_total{{{_MODEL}}}[$__rate_interval]))"
                        f" / (sum by (model) (rate(llmactors_prompt_tokens_total{{{_MODEL}}}[$__rate_interval])) > 0)",
                        "{{model}}",
                    ),
                ),
            ),
            Panel(
                "Workers with each model, by state",
                "In how many workers a model is ready, loading, and so on.",
                "none",
                (Query(f"sum by (model, state) (llmactors_model_state{{{_MODEL}}}) > 0", "{{model}} {{state}}"),),
                stacked=True,
            ),
            Panel(
                "Models that are refused",
                "0 while at least one gateway refuses requests for the model, because no worker serves the model.",
                "none",
                (Query(f"min by (model) (llmactors_model_accepted{{{_MODEL}}})", "{{model}}"),),
            ),
            Panel(
                "Loads of models on demand",
                "Loads in the last ten minutes by outcome. Many loads say that the memory is too small for the models.",
                "none",
                (
                    Query(
                        "sum by (outcome) (increase(llmactors_model_loads_total[10m]))",
                        "{{outcome}}",
                    ),
                ),
            ),
            Panel(
                "Sequences in a decode step",
                "How many requests a backend decodes together, on average.",
                "none",
                (
                    Query(
                        f"sum by (instance) (rate(llm_worker_batch_size_sum{{{_NODE}}}[$__rate_interval]))"
                        f" / (sum by (instance) (rate(llm_worker_batch_size_count{{{_NODE}}}[$__rate_interval])) > 0)",
                        "{{instance}}",
                    ),
                ),
            ),
            Panel(
                "Upstreams",
                "Upstreams of openai: models by state. An open upstream gets no requests.",
                "none",
                (Query(f"sum by (model, state) (llmactors_upstreams{{{_MODEL}}})", "{{model}} {{state}}"),),
                stacked=True,
            ),
            Panel(
                "Requests that went to another upstream",
                "Failovers per second, by the fault of the upstream that was asked first.",
                "reqps",
                (_rate("llmactors_upstream_failovers_total", "reason"),),
            ),
        ),
    ),
    Row(
        "Workers",
        (
            Panel(
                "Nodes",
                "Nodes that are ready, and workers in the ledger: one for each model of each worker node.",
                "none",
                (
                    Query("max(llmactors_ledger_workers)", "workers in the ledger"),
                    Query("sum by (job) (llmactors_ready)", "{{job}} ready"),
                    Query("sum by (job) (llmactors_draining)", "{{job}} draining"),
                ),
            ),
            Panel(
                "Takeovers",
                "Answers in the last five minutes that went on at another worker or another process, by cause. "
                "handed_back is a drain, and harmless.",
                "none",
                (
                    Query(
                        f"sum by (cause) (increase(llmactors_takeovers_total{{{_MODEL}}}[5m]))",
                        "{{cause}}",
                    ),
                ),
            ),
            Panel(
                "Requeued, fenced, preempted, given up",
                "What happened to requests that did not end where they began, per second.",
                "ops",
                (
                    Query("sum(rate(llmactors_ledger_requeued_total[$__rate_interval]))", "requeued"),
                    Query("sum(rate(llmactors_ledger_fenced_total[$__rate_interval]))", "fenced"),
                    Query("sum(rate(llmactors_preemptions_total[$__rate_interval]))", "preempted"),
                    Query("sum(rate(llmactors_ledger_given_up_total[$__rate_interval]))", "given up"),
                ),
            ),
            Panel(
                "Tokens of each worker",
                "Tokens per second that the backends of each worker made.",
                "ops",
                (_rate("llm_worker_tokens_generated_total", "instance", _NODE),),
                stacked=True,
            ),
            Panel(
                "Failures of backends",
                "Backends that crashed or hung, and requests that failed in a backend, per second.",
                "ops",
                (_rate("llm_worker_errors_total", "instance", _NODE),),
            ),
            Panel(
                "Restarts of actors",
                "Restarts by supervisors in the last five minutes.",
                "none",
                (
                    Query(
                        f"sum by (actor) (increase(llmactors_actor_restarts_total{{{_NODE}}}[5m])) > 0",
                        "{{actor}}",
                    ),
                ),
            ),
        ),
    ),
    Row(
        "Redis",
        (
            Panel(
                "Redis serves the node",
                "1 while Redis answers the node and admits its requests.",
                "none",
                (Query(f"llmactors_redis_available{{{_NODE}}}", "{{instance}}"),),
            ),
            Panel(
                "Redis round trip",
                "The time of a small command to Redis and back, as each node measures it once a second.",
                "s",
                tuple(
                    Query(
                        f"histogram_quantile({share}, sum by (instance, le)"
                        f" (rate(llmactors_redis_round_trip_seconds_bucket{{{_NODE}}}[$__rate_interval])))",
                        f"{{{{instance}}}} {name}",
                    )
                    for share, name in ((0.5, "p50"), (0.99, "p99"))
                ),
            ),
            Panel(
                "Commands",
                "Commands per second to Redis.",
                "ops",
                (_rate("llmactors_redis_commands_total", "instance", _NODE),),
                stacked=True,
            ),
            Panel(
                "Commands without a reply",
                "A number that grows says that Redis is slower than its nodes ask.",
                "none",
                (Query(f"sum by (instance) (llmactors_redis_commands_in_flight{{{_NODE}}})", "{{instance}}"),),
            ),
            Panel(
                "Outages",
                "Outages of Redis in the last ten minutes by their first reason, and connections that were made.",
                "none",
                (
                    Query(
                        f"sum by (reason) (increase(llmactors_redis_outages_total{{{_NODE}}}[10m]))",
                        "outage: {{reason}}",
                    ),
                    Query(
                        f"sum by (instance) (increase(llmactors_redis_connects_total{{{_NODE}}}[10m]))",
                        "connections of {{instance}}",
                    ),
                ),
            ),
            Panel(
                "Error replies of Redis",
                "Replies per second that are errors, by the first word of the error.",
                "ops",
                (_rate("llmactors_redis_error_replies_total", "kind", _NODE),),
            ),
        ),
    ),
    Row(
        "Processes",
        (
            Panel(
                "CPU",
                "Cores that each process uses. One event loop uses one core at most.",
                "none",
                (
                    Query(
                        f"rate(process_cpu_seconds_total{{{_NODE}}}[$__rate_interval])",
                        "{{instance}}",
                    ),
                ),
            ),
            Panel(
                "Memory",
                "Resident memory of each process. The memory of a model's child process is not in this figure.",
                "bytes",
                (Query(f"process_resident_memory_bytes{{{_NODE}}}", "{{instance}}"),),
            ),
            Panel(
                "Open files",
                "Open files and sockets, as a part of the limit.",
                "percentunit",
                (
                    Query(
                        f"process_open_fds{{{_NODE}}} / process_max_fds{{{_NODE}}}",
                        "{{instance}}",
                    ),
                ),
            ),
            Panel(
                "Event loop delay",
                "The worst delay of the last one to two minutes. All streams of the node wait for this long.",
                "s",
                (Query(f"llmactors_event_loop_stall_seconds_max{{{_NODE}}}", "{{instance}}"),),
            ),
            Panel(
                "Messages that wait in mailboxes",
                "The five fullest mailboxes of actors.",
                "none",
                (
                    Query(
                        f"topk(5, max by (instance, actor) (llmactors_mailbox_depth{{{_NODE}}}))",
                        "{{instance}} {{actor}}",
                    ),
                ),
            ),
            Panel(
                "Lost lines and lost spans",
                "Lines of logs, and spans of traces, that were dropped in the last ten minutes.",
                "none",
                (
                    Query(
                        f"sum by (stream) (increase(llmactors_output_lines_dropped_total{{{_NODE}}}[10m]))",
                        "lines of {{stream}}",
                    ),
                    Query(
                        "sum by (outcome)"
                        f' (increase(llmactors_trace_spans_total{{{_NODE}, outcome=~"dropped|failed"}}[10m]))',
                        "spans {{outcome}}",
                    ),
                ),
            ),
            Panel(
                "Tasks",
                "Trio tasks of each process: some for each connection and each running request.",
                "none",
                (Query(f"llmactors_tasks{{{_NODE}}}", "{{instance}}"),),
            ),
            Panel(
                "Versions",
                "How many nodes run each version.",
                "none",
                (Query("count by (version) (llmactors_build_info)", "{{version}}"),),
            ),
            Panel(
                "Alerts that fire",
                "The page ops/RUNBOOK.md says what each alert means and what to do.",
                "none",
                (Query('sum by (alertname, severity) (ALERTS{alertstate="firing"})', "{{alertname}} ({{severity}})"),),
            ),
        ),
    ),
)


def _variable(name: str, label: str, query: str) -> dict[str, Any]:
    return {
        "type": "query",
        "name": name,
        "label": label,
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "query": {"query": query, "refId": name},
        "includeAll": True,
        "multi": True,
        "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"]},
        "refresh": 2,
        "sort": 1,
    }


def _panel(number: int, panel: Panel, x: int, y: int) -> dict[str, Any]:
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "gridPos": {"x": x, "y": y, "w": _PANEL_WIDTH, "h": _PANEL_HEIGHT},
        "targets": [
            {"refId": chr(ord("A") + place), "expr": query.expr, "legendFormat": query.legend}
            for place, query in enumerate(panel.queries)
        ],
        "fieldConfig": {
            "defaults": {
                "unit": panel.unit,
                "min": 0,
                "custom": {
                    "fillOpacity": 10,
                    "showPoints": "never",
                    "stacking": {"mode": "normal" if panel.stacked else "none"},
                },
            },
            "overrides": [],
        },
        "options": {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
    }


def _panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    y = 0
    for row in ROWS:
        place = {"x": 0, "y": y, "w": _COLUMNS, "h": 1}
        found.append(
            {
                "id": len(found) + 1,
                "type": "row",
                "title": row.title,
                "collapsed": False,
                "gridPos": place,
                "panels": [],
            }
        )
        y += 1
        for number, panel in enumerate(row.panels):
            x = number * _PANEL_WIDTH % _COLUMNS
            found.append(_panel(len(found) + 1, panel, x, y + number * _PANEL_WIDTH // _COLUMNS * _PANEL_HEIGHT))
        y += -(-len(row.panels) * _PANEL_WIDTH // _COLUMNS) * _PANEL_HEIGHT
    return found


def document() -> dict[str, Any]:
    """The dashboard in Grafana's JSON."""
    return {
        "uid": "llmactors",
        "title": "llmactors",
        "description": "What users see, the queue, the models, the workers, Redis and the processes of one cluster.",
        "tags": ["llmactors"],
        "schemaVersion": 39,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "annotations": {"list": []},
        "links": [],
        "templating": {
            "list": [
                {"type": "datasource", "name": "datasource", "label": "Source", "query": "prometheus", "hide": 0},
                _variable("model", "Model", "label_values(llmactors_slots, model)"),
                _variable("instance", "Node", "label_values(llmactors_build_info, instance)"),
            ]
        },
        "panels": _panels(),
    }


def text() -> str:
    """The contents of the file."""
    return json.dumps(document(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
