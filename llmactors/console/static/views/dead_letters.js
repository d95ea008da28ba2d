// Requests that every worker which took them has failed. A person decides: once more, or never.

import {post, remove} from "../api.js";
import {confirm} from "../dialog.js";
import {h} from "../dom.js";
import {ago, count} from "../format.js";
import {button, code, needing, notice} from "../parts.js";
import {table} from "../table.js";

const LIMIT = 200;
let done = null;

const pathOf = letter => `/v1/operator/dead-letters/${encodeURIComponent(letter.id)}`;

function requeue(letter, context) {
    confirm({
        title: "Run this request again?",
        text: [`${letter.id} becomes a new request at the end of its queue.`, `The cause of its end was: ${letter.cause}`],
        yes: "Requeue",
        action: async () => {
            const {id} = await post(`${pathOf(letter)}/requeue`);
            done = {text: "The request runs again as ", id};
            context.refresh("letters", "letterCount");
        },
    });
}

function purge(letter, context) {
    confirm({
        title: "Delete this dead letter?",
        text: `${letter.id} of tenant ${letter.tenant || "–"} is deleted for good. Nobody can run it again.`,
        yes: "Purge",
        dangerous: true,
        action: async () => {
            await remove(pathOf(letter));
            done = {text: `${letter.id} is deleted.`};
            context.refresh("letters", "letterCount");
        },
    });
}

const columns = context => [
    {title: "Request", cell: each => h("a", {href: `#/requests/${encodeURIComponent(each.id)}`, class: "id", title: each.id}, code(each.id))},
    {title: "Cause", sort: each => each.cause, cell: each => each.cause, wide: true},
    {title: "Tenant", sort: each => each.tenant, cell: each => each.tenant || "–"},
    {title: "Model", sort: each => each.model, cell: each => each.model},
    {title: "Attempts", numeric: true, sort: each => each.attempts, cell: each => count(each.attempts)},
    {title: "Ended", numeric: true, sort: each => each.unix_s, cell: each => ago(each.unix_s)},
    {
        title: "Change",
        cell: each => h("span", {class: "buttons"},
            button("Requeue", {"aria-label": `Requeue ${each.id}`, onclick: () => requeue(each, context)}),
            button("Purge", {"aria-label": `Purge ${each.id}`, class: "danger-quiet", onclick: () => purge(each, context)})),
    },
];

export const view = {
    path: "dead-letters",
    title: "Dead letters",
    sources: () => ({letters: {path: `/v1/operator/dead-letters?limit=${LIMIT}`, everyS: 3}}),
    draw: context => [
        done ? notice("good", done.text, done.id ? h("a", {href: `#/requests/${encodeURIComponent(done.id)}`}, code(done.id)) : null) : null,
        h("p", {class: "note"}, "A dead letter is a request that was given up, because it crashed its backend while it ran alone. ",
            "Look at the cause first: what is run again may crash the backend again."),
        needing(context, "letters", "the dead letters", ({dead_letters: letters, total}) => [
            letters.length < total ? h("p", {class: "note"}, `The newest ${count(letters.length)} of ${count(total)}.`) : null,
            table({
                label: "Dead letters", columns: columns(context), rows: letters, key: each => each.id, redraw: context.redraw,
                empty: {title: "No dead letters", text: "A request becomes a dead letter if each backend that took it crashed."},
            }),
        ]),
    ],
};
