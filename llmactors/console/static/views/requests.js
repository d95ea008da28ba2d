// The requests that have not ended, with a filter. No route of the console ever holds a prompt or an answer.

import {h} from "../dom.js";
import {count, duration, plural} from "../format.js";
import {code, field, needing, state} from "../parts.js";
import {table} from "../table.js";

const LIMIT = 200;
const FILTERS = ["state", "model", "tenant"];

const columns = [
    {title: "Request", cell: each => h("a", {href: `#/requests/${encodeURIComponent(each.id)}`, class: "id", title: each.id}, code(each.id))},
    {title: "State", sort: each => each.state, cell: each => state(each.state)},
    {title: "Age", numeric: true, sort: each => each.age_s, cell: each => duration(each.age_s)},
    {title: "Tokens", numeric: true, sort: each => each.tokens, cell: each => count(each.tokens)},
    {title: "Model", sort: each => each.model, cell: each => each.model},
    {title: "Tenant", sort: each => each.tenant, cell: each => each.tenant || "–"},
    {title: "Class", hint: "Class 0 is served first", numeric: true, sort: each => each.class, cell: each => count(each.class)},
    {title: "Worker", sort: each => each.worker, cell: each => each.worker || "–"},
    {title: "Attempts", hint: "How many workers have begun the request", numeric: true, sort: each => each.attempts, cell: each => count(each.attempts)},
    {title: "Takeovers", hint: "How often another worker went on with the answer", numeric: true, sort: each => each.takeovers, cell: each => count(each.takeovers)},
];

function route(query) {
    const asked = new URLSearchParams();
    for (const name of FILTERS) if (query.get(name)) asked.set(name, query.get(name));
    asked.set("limit", LIMIT);
    return `/v1/operator/requests?${asked}`;
}

function filters(context) {
    const {query, go} = context;
    const choose = (name, value) => {
        const next = new URLSearchParams(query);
        if (value) next.set(name, value);
        else next.delete(name);
        go(next.size ? `#/requests?${next}` : "#/requests");
    };
    const chosen = name => query.get(name) ?? "";
    const models = new Set(context.data("models")?.models.map(each => each.name) ?? []);
    if (chosen("model")) models.add(chosen("model"));
    const opened = event => {
        event.preventDefault();
        const id = event.target.elements.id.value.trim();
        if (id) go(`#/requests/${encodeURIComponent(id)}`);
    };
    return h("div", {class: "filters"},
        field("filter-state", "State", h("select", {value: chosen("state"), onchange: event => choose("state", event.target.value)},
            h("option", {value: ""}, "All"), h("option", {value: "running"}, "Running"), h("option", {value: "queued"}, "Queued"))),
        field("filter-model", "Model", h("select", {value: chosen("model"), onchange: event => choose("model", event.target.value)},
            h("option", {value: ""}, "All"), [...models].map(each => h("option", {key: each, value: each}, each)))),
        field("filter-tenant", "Tenant", h("input", {
            type: "search", value: chosen("tenant"), autocomplete: "off", spellcheck: "false", placeholder: "All",
            onchange: event => choose("tenant", event.target.value.trim()),
        })),
        h("form", {class: "open-request", role: "search", onsubmit: opened},
            field("open-id", "Open by id", h("input", {name: "id", autocomplete: "off", spellcheck: "false", placeholder: "req_…"})),
            h("button", {type: "submit"}, "Open")));
}

export const view = {
    path: "requests",
    title: "Requests",
    sources: ({query}) => ({
        requests: {path: route(query), everyS: 2},
        models: {path: "/v1/operator/models", everyS: 15},
    }),
    draw: context => [
        filters(context),
        needing(context, "requests", "the requests", ({requests, total}) => [
            h("p", {class: "note"}, h("span", {role: "status"}, requests.length < total
                ? `The oldest ${count(requests.length)} of ${count(total)} requests under way.` : `${plural(total, "request")} under way.`),
                " Those that have ended are opened by their id."),
            table({
                label: "Requests", columns, rows: requests, key: each => each.id, redraw: context.redraw,
                empty: context.query.size
                    ? {title: "No request fits the filter", text: "Requests that have ended are opened by their id."}
                    : {title: "Nothing is under way", text: "Requests appear here while they wait and run. Those that have ended are opened by their id."},
            }),
        ]),
    ],
};
