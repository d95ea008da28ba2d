// Drills: break something on purpose, and see that a stream goes on.

import {NativeAnswer} from "../answer.js";
import {post} from "../api.js";
import {h} from "../dom.js";
import {count, duration, plural, time} from "../format.js";
import {button, code, field, needing, notice, section, tile} from "../parts.js";
import {table} from "../table.js";
import {arrivalsChart} from "./arrivals.js";

const PROMPT = "Tell a long story about a lighthouse.";
let model = "", tokens = 600, actor = "", answer = null, problem = null;
let drills = [];

function begin(context) {
    answer = new NativeAnswer({model, prompt: PROMPT, max_tokens: tokens, stream: true}, {apiKey: "", onChange: context.redraw});
    drills = [];
    problem = null;
    answer.run();
}

async function drill(context, name, words, body) {
    drills.push({at: performance.now(), words});
    problem = null;
    context.redraw();
    try {
        await post(`/v1/operator/drills/${name}`, body);
    } catch (error) {
        problem = `${words}: ${error.message}`;
    }
    context.refresh("restarts", "tree");
    context.redraw();
}

// The actors of a tree: its leaves.
function actorsOf(part) {
    return part.children?.length ? part.children.flatMap(actorsOf) : part.strategy ? [] : [part.path];
}

function controls(context) {
    const models = context.data("models")?.data ?? [];
    if (!model && models.length) model = models[0].id;
    const actors = context.data("tree") ? actorsOf(context.data("tree")) : [];
    if (!actors.includes(actor)) actor = actors.find(each => each.includes("batcher")) ?? actors[0] ?? "";
    const running = answer?.running ?? false;
    const choose = set => event => {
        set(event.target.value);
        context.redraw();
    };
    return [
        h("div", {class: "filters"},
            field("drill-model", "Model", h("select", {value: model, onchange: choose(value => { model = value; })},
                models.map(each => h("option", {key: each.id, value: each.id}, each.id)))),
            field("drill-tokens", "Tokens", h("input", {
                type: "number", min: 1, max: 4000, value: tokens, onchange: choose(value => { tokens = Number(value) || 600; }),
            })),
            running
                ? button("Stop the stream", {key: "stop", onclick: () => answer.stop()})
                : button("Start a stream", {key: "start", class: "primary", disabled: !model, onclick: () => begin(context)})),
        h("div", {class: "drills"},
            h("div", {class: "card"}, h("h3", {}, "Kill the model"),
                h("p", {}, "The process of the model is killed. Its supervisor starts another one, which goes on behind the last token."),
                button("Kill the model's process", {class: "dangerous", disabled: !model, onclick: () => drill(context, "kill-model", "Killed the model", {model})})),
            h("div", {class: "card"}, h("h3", {}, "Crash an actor"),
                field("drill-actor", "Actor", h("select", {value: actor, onchange: choose(value => { actor = value; })},
                    actors.map(each => h("option", {key: each, value: each}, each.replace(/^node\//, ""))))),
                button("Crash this actor", {class: "dangerous", disabled: !actor, onclick: () => drill(context, "crash-actor", `Crashed ${actor}`, {actor})})),
            h("div", {class: "card"}, h("h3", {}, "Cut my connection"),
                h("p", {}, "The node cuts the connection of the stream below. This page follows the stream again."),
                button("Cut my connection", {
                    class: "dangerous", disabled: !running || !answer.requestId,
                    onclick: () => drill(context, "cut-connection", "Cut the connection", {request_id: answer.requestId}),
                }))),
    ];
}

function stream() {
    if (answer === null) {
        return h("div", {class: "empty"}, h("p", {class: "empty-title"}, "No stream runs"),
            h("p", {}, "Start a stream, then break something: each token that arrives is a stroke on the line."));
    }
    const whole = answer.wrong === 0;
    return [
        h("dl", {class: "tiles"},
            tile("Events", count(answer.last), answer.running ? "so far" : "in all"),
            tile("Lost or twice", count(answer.wrong), whole ? "every number came once, in order" : "see the notes"),
            tile("Drills", count(drills.length), plural(answer.cuts, "cut connection")),
            tile("Time", duration(answer.seconds), answer.running ? "since the start" : "from start to end")),
        arrivalsChart(answer, drills),
        h("p", {class: "stream-text", tabindex: 0, "aria-label": "The end of the text"}, answer.text.slice(-600)),
        answer.error ? notice("bad", answer.error) : null,
        h("ol", {class: "notes", "aria-label": "What happened"}, answer.notes.map((each, at) =>
            h("li", {key: at, class: each.tone}, h("span", {class: "note-time"}, duration(each.at)), h("span", {}, each.text)))),
        answer.requestId ? h("p", {class: "note"}, "Request ", h("a", {href: `#/requests/${encodeURIComponent(answer.requestId)}`}, code(answer.requestId))) : null,
    ];
}

export const view = {
    path: "drills",
    title: "Drills",
    sources: () => ({
        models: {path: "/v1/models", everyS: 5},
        tree: {path: "/v1/tree", everyS: 5},
        restarts: {path: "/v1/operator/restarts", everyS: 1},
    }),
    draw: context => [
        h("p", {class: "note"}, "Each drill breaks a part of this node for real. The stream below must go on, without a lost or a repeated token."),
        problem ? notice("bad", problem) : null,
        controls(context),
        section("The stream", stream()),
        section("Restarts", needing(context, "restarts", "the restarts", ({restarts}) => table({
            label: "Restarts", key: each => `${each.unix_s} ${each.actor} ${each.incarnation}`,
            rows: [...restarts].sort((one, other) => other.unix_s - one.unix_s).slice(0, 10),
            columns: [
                {title: "When", cell: each => time(each.unix_s)},
                {title: "Actor", cell: each => code(each.actor), wide: true},
                {title: "Incarnation", numeric: true, cell: each => count(each.incarnation)},
                {title: "Why", cell: each => each.reason, wide: true},
            ],
            empty: {title: "No actor has been restarted", text: ""},
        }))),
    ],
};
