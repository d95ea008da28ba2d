// Who used how much: sums of the records that are written in the move that ends a request.

import {h} from "../dom.js";
import {amount, count} from "../format.js";
import {field, needing} from "../parts.js";
import {table} from "../table.js";

const GROUPS = {tenant: "Tenant", key: "Key", model: "Model", hour: "Hour", day: "Day"};
const SPANS = {"1": "the last hour", "24": "the last 24 hours", "168": "the last 7 days", "": "all that is kept"};

function route(query) {
    const asked = new URLSearchParams({by: query.get("by") in GROUPS ? query.get("by") : "tenant"});
    const hours = Number(query.get("hours") ?? "24");
    if (hours) asked.set("since", Math.floor(Date.now() / 1000) - hours * 3600);
    return `/v1/operator/usage?${asked}`;
}

const rowsOf = told => told.rows ?? Object.values(told).find(Array.isArray) ?? [];

function columnsOf(rows) {
    return Object.keys(rows[0] ?? {}).map(name => {
        const numeric = rows.some(each => typeof each[name] === "number");
        return {
            title: name.replaceAll("_", " "),
            numeric,
            sort: each => each[name],
            cell: each => (numeric ? (Number.isInteger(each[name]) ? count(each[name]) : amount(each[name])) : String(each[name] ?? "–")),
        };
    });
}

export const view = {
    path: "usage",
    title: "Usage",
    sources: ({query}) => ({usage: {key: `/v1/operator/usage?${query}`, path: () => route(query), everyS: 10}}),
    draw: context => {
        const {query, go} = context;
        const choose = (name, value) => {
            const next = new URLSearchParams(query);
            next.set(name, value);
            go(`#/usage?${next}`);
        };
        const options = choices => Object.entries(choices).map(([value, name]) => h("option", {key: value, value}, name));
        return [
            h("div", {class: "filters"},
                field("usage-by", "Sums by", h("select", {
                    value: query.get("by") ?? "tenant", onchange: event => choose("by", event.target.value),
                }, options(GROUPS))),
                field("usage-hours", "Of", h("select", {
                    value: query.get("hours") ?? "24", onchange: event => choose("hours", event.target.value),
                }, options(SPANS)))),
            needing(context, "usage", "the usage", told => table({
                label: "Usage", columns: columnsOf(rowsOf(told)), rows: rowsOf(told), key: each => JSON.stringify(each),
                redraw: context.redraw,
                empty: {title: "Nothing was used in this time", text: "A record is written at the end of each request."},
            })),
        ];
    },
};
