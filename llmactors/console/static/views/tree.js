// The supervision tree as it is now, and its restarts as they happen.

import {h} from "../dom.js";
import {ago, count, duration, time} from "../format.js";
import {code, needing, section, state} from "../parts.js";
import {table} from "../table.js";

const FRESH_S = 8;

function branch(part, restarts, depth = 0) {
    const fresh = restarts.some(each => each.actor === part.path && Date.now() / 1000 - each.unix_s < FRESH_S);
    return h("li", {key: part.path},
        h("div", {class: fresh ? "tree-row fresh" : "tree-row", style: {"--depth": depth}},
            h("span", {class: "tree-name"}, part.name, part.strategy ? h("span", {class: "note"}, ` ${part.strategy.replaceAll("_", " ")}`) : null),
            state(part.state),
            h("span", {class: "tree-facts"},
                part.restarts ? h("span", {class: "restarts"}, `${count(part.restarts)} ${part.restarts === 1 ? "restart" : "restarts"}`) : null,
                h("span", {}, `incarnation ${count(part.incarnation)}`),
                part.mailbox ? h("span", {}, `mailbox ${count(part.mailbox.depth)} of ${count(part.mailbox.capacity)}`) : null,
                part.in_hand_s > 1 ? h("span", {class: "restarts"}, `one message since ${duration(part.in_hand_s)}`) : null),
            part.last_exit ? h("p", {class: "tree-exit"}, "Last end: ", part.last_exit) : null),
        part.children?.length ? h("ul", {}, part.children.map(each => branch(each, restarts, depth + 1))) : null);
}

const columns = [
    {title: "When", sort: each => each.unix_s, cell: each => [time(each.unix_s), h("span", {class: "note"}, ` ${ago(each.unix_s)}`)]},
    {title: "Actor", sort: each => each.actor, cell: each => code(each.actor), wide: true},
    {title: "Incarnation", numeric: true, cell: each => count(each.incarnation)},
    {title: "Why", cell: each => each.reason, wide: true},
    {title: "Waited before", numeric: true, cell: each => duration(each.backoff_s)},
];

export const view = {
    path: "tree",
    title: "Tree",
    onWorker: true,
    sources: () => ({
        tree: {path: "/v1/tree", everyS: 1},
        restarts: {path: "/v1/operator/restarts", everyS: 1},
    }),
    draw: context => {
        const restarts = [...(context.data("restarts")?.restarts ?? [])].sort((one, other) => other.unix_s - one.unix_s);
        return [
            h("p", {class: "note"}, "The parts of the node ", h("b", {}, context.session.node),
                ". Supervisors start their children from first to last, and restart those that crash. In a cluster, ",
                code("python -m llmactors tree --cluster"), " shows all nodes."),
            section("Now", needing(context, "tree", "the supervision tree", tree =>
                h("ul", {class: "tree"}, branch(tree, restarts)))),
            section("Restarts",
                h("p", {class: "visually-hidden", role: "status"}, restarts.length ? `Newest restart: ${restarts[0].actor} at ${time(restarts[0].unix_s)}` : ""),
                needing(context, "restarts", "the restarts", () => table({
                    label: "Restarts", columns, rows: restarts, redraw: context.redraw,
                    key: each => `${each.unix_s} ${each.actor} ${each.incarnation}`,
                    empty: {title: "No actor has been restarted", text: "The last 100 restarts of this node appear here as they happen."},
                }))),
        ];
    },
};
