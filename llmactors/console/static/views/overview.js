// What this node and its cluster do now, and charts of the last hour.

import {Chart} from "../chart.js";
import {h} from "../dom.js";
import {amount, count, duration, isNumber, time} from "../format.js";
import {needing, notice, section, tile} from "../parts.js";
import {nodesTable} from "./nodes.js";

const QUIET = "Nothing was measured in this time.";
const RECENT_S = 600;
// A worker writes to no client, and so measures nothing else.
const OF_WORKERS = ["tokens", "load", "queue"];
let charts = null, shown = null;

function makeCharts() {
    const seconds = {format: duration, unit: "seconds", empty: QUIET};
    return {
        tokens: new Chart({title: "Tokens made", unit: "tokens per second", format: amount, empty: QUIET}),
        load: new Chart({title: "Requests under way", unit: "requests", format: count, empty: QUIET}),
        first: new Chart({title: "Time to the first token", ...seconds}),
        between: new Chart({title: "Time between two tokens", ...seconds}),
        queue: new Chart({title: "Wait in the queue", ...seconds}),
        refused: new Chart({
            title: "Errors by code", unit: "requests in each 10 s", format: count, stacked: true,
            empty: "No request ended in an error in this time.",
        }),
    };
}

const quantiles = (series, name) => [
    {name: "Half within (p50)", values: series[`${name}_p50_s`] ?? [], tone: 1},
    {name: "99 % within (p99)", values: series[`${name}_p99_s`] ?? [], tone: 2},
];

function showCharts(history, onWorker) {
    charts ??= makeCharts();
    if (shown !== history) fillCharts(history, onWorker);
    shown = history;
    const names = onWorker ? OF_WORKERS : Object.keys(charts);
    return h("div", {class: "charts"}, names.map(each => charts[each].element));
}

function fillCharts({series, step_s: stepS}, onWorker) {
    charts.tokens.show([{name: "Tokens per second", values: series.tokens_per_s ?? []}], stepS);
    charts.load.show([
        {name: "Running", values: series.running ?? [], tone: 1},
        ...(onWorker ? [] : [{name: "Waiting", values: series.waiting ?? [], tone: 2}]),
    ], stepS);
    charts.first.show(quantiles(series, "ttft"), stepS);
    charts.between.show(quantiles(series, "inter_token"), stepS);
    charts.queue.show(quantiles(series, "queue_wait"), stepS);
    const refusals = Object.entries(series.refusals ?? {}).sort(([one], [other]) => (one < other ? -1 : 1));
    charts.refused.show(refusals.map(([name, values], at) => ({name, values, tone: (at % 6) + 1})), stepS);
}

const newest = values => values?.findLast(isNumber) ?? null;
const last = values => (values?.length ? values.at(-1) : null);

function tiles({series, step_s: stepS}, onWorker) {
    const made = tile("Tokens per second", amount(last(series.tokens_per_s)), "in the last 10 s");
    const running = tile("Running", count(newest(series.running)), "requests that have a slot");
    if (onWorker) return h("dl", {class: "tiles"}, made, running);
    const recent = Math.ceil(RECENT_S / stepS);
    const failed = Object.values(series.refusals ?? {})
        .reduce((sum, values) => sum + values.slice(-recent).reduce((one, other) => one + (other ?? 0), 0), 0);
    return h("dl", {class: "tiles"},
        made,
        tile("Requests per second", amount(last(series.requests_per_s)), "in the last 10 s"),
        running,
        tile("Waiting", count(newest(series.waiting)), "requests in the queue"),
        tile("First token", duration(newest(series.ttft_p50_s)), "or less, for half of the answers"),
        tile("Errors", count(failed), "requests in the last 10 min"));
}

// One sentence that says whether somebody has to act.
function health(context) {
    const problems = Object.entries(context.data("ready")?.problems ?? context.error("ready")?.told?.problems ?? {});
    const letters = context.data("letterCount")?.total;
    const told = problems.map(([part, text]) => h("li", {key: part}, h("b", {}, part), ": ", text));
    if (letters) {
        told.push(h("li", {key: "letters"}, h("a", {href: "#/dead-letters"},
            letters === 1 ? "1 dead letter waits" : `${count(letters)} dead letters wait`), " for a decision."));
    }
    if (told.length) return notice(problems.length ? "bad" : "busy", h("ul", {class: "problems"}, told));
    if (context.data("ready") === null) return null;
    return notice("good", "All parts of this node work.");
}

export const view = {
    path: "",
    title: "Overview",
    onWorker: true,
    sources: () => ({
        ready: {path: "/readyz", everyS: 3},
        nodes: {path: "/v1/operator/nodes", everyS: 2},
        history: {path: "/v1/operator/history", everyS: 5},
    }),
    draw: context => [
        health(context),
        needing(context, "history", "the last hour", history => [
            tiles(history, context.session.readOnly),
            section("Last hour", showCharts(history, context.session.readOnly),
                h("p", {class: "note"}, "Measured since ", time(history.from_unix_s),
                    ". Each point stands for ", duration(history.step_s), ".")),
        ]),
        section("Nodes", needing(context, "nodes", "the nodes", ({nodes}) => nodesTable(nodes, context))),
    ],
};
