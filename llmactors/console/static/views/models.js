// The models: their state, how many slots are busy, and what waits for them.

import {h} from "../dom.js";
import {amount, count, duration} from "../format.js";
import {needing, state, usage} from "../parts.js";
import {table} from "../table.js";

const columns = [
    {title: "Model", sort: each => each.name, cell: each => h("a", {href: `#/requests?model=${encodeURIComponent(each.name)}`}, each.name)},
    {
        title: "State", sort: each => each.state,
        cell: each => [state(each.state), each.detail ? h("span", {class: "note"}, " ", each.detail) : null],
    },
    {title: "Workers", numeric: true, sort: each => each.workers, cell: each => count(each.workers)},
    {
        title: "Slots busy", numeric: true, sort: each => each.slots_busy,
        cell: each => (each.slots ? usage(each.slots_busy, each.slots, `${count(each.slots_busy)} of ${count(each.slots)}`) : "–"),
    },
    {title: "Waiting", numeric: true, sort: each => each.waiting, cell: each => count(each.waiting)},
    {title: "Oldest waits for", numeric: true, sort: each => each.oldest_wait_s, cell: each => (each.waiting ? duration(each.oldest_wait_s) : "–")},
    {title: "Tokens per second", numeric: true, sort: each => each.tokens_per_s, cell: each => amount(each.tokens_per_s)},
];

export const view = {
    path: "models",
    title: "Models",
    sources: () => ({models: {path: "/v1/operator/models", everyS: 2}}),
    draw: context => needing(context, "models", "the models", ({models}) => table({
        label: "Models", columns, rows: models, key: each => each.name, redraw: context.redraw,
        empty: {title: "No model is served", text: "Start a worker with --model, and its models appear here."},
    })),
};
