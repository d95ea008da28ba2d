// Who used how much: sums of the records that are written in the step that ends a request.

import {h} from "../dom.js";
import {count, duration, moment} from "../format.js";
import {code, field, needing, share, tile} from "../parts.js";
import {table} from "../table.js";

const GROUPS = [["tenant", "Tenant"], ["key", "Key"], ["model", "Model"], ["hour", "Hour"], ["day", "Day"]];
const HOURS = [["today", "today (UTC)"], ["1", "the last hour"], ["24", "the last 24 hours"], ["168", "the last 7 days"], ["0", "all that is kept"]];

const groupOf = query => (GROUPS.some(([name]) => name === query.get("by")) ? query.get("by") : "tenant");
const hoursOf = query => query.get("hours") ?? "today";

function route(query) {
    const by = groupOf(query);
    if (hoursOf(query) === "today") return `/v1/operator/usage?${new URLSearchParams({by})}`;
    const hours = Number(hoursOf(query));
    const since = hours > 0 ? Math.floor(Date.now() / 1000) - hours * 3600 : 0;
    return `/v1/operator/usage?${new URLSearchParams({by, since})}`;
}

const tokensOf = row => row.prompt_tokens + row.completion_tokens;

// The columns that say what a row adds up.
function groupColumns(by) {
    const tenant = {title: "Tenant", sort: each => each.tenant, cell: each => each.tenant || "–"};
    if (by === "tenant") return [tenant];
    if (by === "key") return [tenant, {title: "Key", sort: each => each.key_id, cell: each => (each.key_id ? code(each.key_id) : "–")}];
    if (by === "model") return [{title: "Model", sort: each => each.model, cell: each => each.model || "–"}];
    return [{title: by === "hour" ? "Hour" : "Day", sort: each => each.start_unix_s, cell: each => moment(each.start_unix_s, by)}];
}

function columns(by, total) {
    const all = tokensOf(total);
    const money = Number(total.cost) > 0;
    return [
        ...groupColumns(by),
        {title: "Requests", numeric: true, sort: each => each.requests, cell: each => count(each.requests)},
        {title: "Failed", numeric: true, sort: each => each.failed, cell: each => count(each.failed)},
        {title: "Prompt tokens", numeric: true, sort: each => each.prompt_tokens, cell: each => count(each.prompt_tokens)},
        {title: "Cached", hint: "Tokens of prompts that came from a cache", numeric: true, sort: each => each.cached_tokens, cell: each => count(each.cached_tokens)},
        {title: "Answer tokens", numeric: true, sort: each => each.completion_tokens, cell: each => count(each.completion_tokens)},
        {
            title: "Share of tokens", numeric: true, sort: tokensOf,
            cell: each => share(tokensOf(each), all),
        },
        {title: "Time in the queue", hint: "Of all these requests together", numeric: true, sort: each => each.queue_s, cell: each => duration(each.queue_s)},
        {title: "Time running", hint: "Of all these requests together", numeric: true, sort: each => each.run_s, cell: each => duration(each.run_s)},
        ...(money ? [{title: "Cost", numeric: true, sort: each => Number(each.cost), cell: each => each.cost}] : []),
    ];
}

function sums({by, rows, rows_total: rowsTotal, since_unix_s: since, total}, context) {
    return [
        h("dl", {class: "tiles"},
            tile("Requests", count(total.requests), "that have ended"),
            tile("Failed", count(total.failed), "ended with an error"),
            tile("Prompt tokens", count(total.prompt_tokens), `${count(total.cached_tokens)} of them from a cache`),
            tile("Answer tokens", count(total.completion_tokens), "made by models"),
            Number(total.cost) > 0 ? tile("Cost", total.cost, "by the prices of the models") : null),
        table({
            label: "Usage", columns: columns(by, total), rows, redraw: context.redraw,
            key: each => JSON.stringify([each.tenant, each.key_id, each.model, each.start_unix_s]),
            empty: {title: "Nothing was used in this time", text: "A record is written at the end of each request."},
        }),
        h("p", {class: "note"}, since > 0 ? `Counted since ${moment(since, "hour")}. ` : "",
            rows.length < rowsTotal ? `The first ${count(rows.length)} of ${count(rowsTotal)} rows. ` : "",
            "One line for each request: ", code("python -m llmactors usage export"), "."),
    ];
}

export const view = {
    path: "usage",
    title: "Usage",
    sources: ({query}) => ({
        usage: {key: `/v1/operator/usage?${groupOf(query)} ${hoursOf(query)}`, path: () => route(query), everyS: 5},
    }),
    draw: context => {
        const {query, go} = context;
        const choose = name => event => {
            const next = new URLSearchParams(query);
            next.set(name, event.target.value);
            go(`#/usage?${next}`);
        };
        const options = choices => choices.map(([value, name]) => h("option", {key: value, value}, name));
        return [
            h("div", {class: "filters"},
                field("usage-by", "For each", h("select", {value: groupOf(query), onchange: choose("by")}, options(GROUPS))),
                field("usage-hours", "Time", h("select", {value: hoursOf(query), onchange: choose("hours")}, options(HOURS)))),
            needing(context, "usage", "the usage", told => sums(told, context)),
        ];
    },
};
