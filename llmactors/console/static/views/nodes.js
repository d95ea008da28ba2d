// The nodes of the cluster as a table, with the buttons that cordon a node and take the cordon away.

import {post} from "../api.js";
import {confirm} from "../dialog.js";
import {h} from "../dom.js";
import {ago, count, duration, time} from "../format.js";
import {button, code, field, state, usage} from "../parts.js";
import {table} from "../table.js";

const DRAIN_FOR = [
    ["", "Until somebody uncordons it"], ["900", "15 minutes"], ["3600", "An hour"], ["14400", "4 hours"], ["86400", "A day"],
];

export function nodesTable(nodes, context) {
    const columns = [
        {title: "Node", sort: each => each.name, cell: each => nodeName(each, context)},
        {title: "State", sort: stateOf, cell: each => [state(stateOf(each)), until(each)]},
        {title: "Roles", cell: each => each.roles.join(", ")},
        {title: "Models", cell: each => each.models.join(", ") || "–", wide: true},
        {
            title: "Slots busy", numeric: true, sort: each => each.slots_busy,
            cell: each => (each.slots ? usage(each.slots_busy, each.slots, `${count(each.slots_busy)} of ${count(each.slots)}`) : "–"),
        },
        {
            title: "Streams", hint: "Answers that the node writes to clients now", numeric: true, sort: each => each.followed_streams,
            cell: each => (each.roles.includes("gateway") ? count(each.followed_streams) : "–"),
        },
        {title: "Longest stall", hint: "How long the node did nothing else at most, in the last one to two minutes", numeric: true, sort: each => each.loop_stall_s, cell: each => duration(each.loop_stall_s)},
        {title: "Version", cell: each => code(each.version)},
        {title: "Started", sort: each => each.started_unix_s, cell: each => ago(each.started_unix_s)},
    ];
    if (!context.session.readOnly && nodes.some(isWorkerOfCluster)) {
        columns.push({title: "Change", cell: each => (isWorkerOfCluster(each) ? changeButton(each, context) : "–")});
    }
    return table({
        label: "Nodes", columns, rows: nodes, key: each => each.name, redraw: context.redraw,
        empty: {title: "No node is known", text: "Nodes appear here as soon as they have joined."},
    });
}

// The name of a node, as a link to the node's own console where that is another one.
function nodeName(node, context) {
    const isLink = node.name !== context.session.node && /^https?:/.test(node.url ?? "");
    return isLink ? h("a", {href: node.url}, h("b", {}, node.name)) : h("b", {}, node.name);
}

const isWorkerOfCluster = node => node.roles.includes("worker") && !node.roles.includes("gateway");

function stateOf(node) {
    if (node.cordoned) return "drained";
    return node.draining ? "draining" : "ready";
}

// When a drained node takes work again by itself.
function until(node) {
    if (!node.cordoned) return null;
    return h("div", {class: "note"}, node.cordoned_until_unix_s ? `until ${time(node.cordoned_until_unix_s)}` : "until Uncordon");
}

function changeButton(node, context) {
    const path = `/v1/operator/nodes/${encodeURIComponent(node.name)}`;
    if (node.cordoned) {
        return button("Uncordon", {
            "aria-label": `Uncordon ${node.name}`,
            onclick: () => confirm({
                title: `Uncordon ${node.name}?`,
                text: "The node takes requests again.",
                yes: "Uncordon",
                action: async () => {
                    await post(`${path}/uncordon`);
                    context.refresh("nodes");
                },
            }),
        });
    }
    return button("Drain", {
        "aria-label": `Drain ${node.name}`, disabled: node.draining,
        onclick: () => confirm({
            title: `Drain ${node.name}?`,
            choice: field("drain-for", "For how long", h("select", {name: "for"}, DRAIN_FOR.map(([seconds, words]) =>
                h("option", {key: seconds, value: seconds}, words)))),
            text: [
                "The node takes no new requests, and hands over those that it has. No stream is lost.",
                "The node stays drained also when it is started again.",
            ],
            yes: "Drain",
            dangerous: true,
            action: async () => {
                const seconds = document.getElementById("drain-for").value;
                await post(`${path}/drain`, seconds ? {for_s: Number(seconds)} : {});
                context.refresh("nodes");
            },
        }),
    });
}
