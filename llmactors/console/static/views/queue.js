// What waits, by model, class and tenant.

import {h} from "../dom.js";
import {count, duration} from "../format.js";
import {needing, tile} from "../parts.js";
import {table} from "../table.js";

const columns = [
    {title: "Model", sort: each => each.model, cell: each => each.model},
    {title: "Class", numeric: true, sort: each => each.class, cell: each => count(each.class)},
    {title: "Tenant", sort: each => each.tenant, cell: each => each.tenant || "–"},
    {title: "Waiting", numeric: true, sort: each => each.waiting, cell: each => count(each.waiting)},
    {title: "Cost in tokens", numeric: true, sort: each => each.cost_tokens, cell: each => count(each.cost_tokens)},
    {title: "Oldest waits for", numeric: true, sort: each => each.oldest_wait_s, cell: each => duration(each.oldest_wait_s)},
    {
        title: "Requests",
        cell: each => h("a", {
            href: `#/requests?${new URLSearchParams({state: "queued", model: each.model, ...(each.tenant ? {tenant: each.tenant} : {})})}`,
        }, "Show"),
    },
];

const sum = (rows, name) => rows.reduce((total, each) => total + (each[name] ?? 0), 0);

export const view = {
    path: "queue",
    title: "Queue",
    sources: () => ({queue: {path: "/v1/operator/queue", everyS: 2}}),
    draw: context => needing(context, "queue", "the queue", ({models}) => [
        h("dl", {class: "tiles"},
            tile("Waiting", count(sum(models, "waiting")), "requests"),
            tile("Oldest waits for", models.length ? duration(Math.max(...models.map(each => each.oldest_wait_s ?? 0))) : "–", "in any queue"),
            tile("Cost", count(sum(models, "cost_tokens")), "tokens of prompts and answers")),
        table({
            label: "Queue", columns, rows: models, key: each => JSON.stringify([each.model, each.class, each.tenant]),
            redraw: context.redraw,
            empty: {title: "Nothing waits", text: "Every request has a slot as soon as it arrives."},
        }),
        h("p", {class: "note"}, "Class 0 is served first. Within a class, tenants take turns by their weight."),
    ]),
};
