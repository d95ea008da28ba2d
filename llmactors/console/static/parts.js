// The small parts that views are made of.

import {h} from "./dom.js";

const TONES = {
    ready: "good", running: "good", healthy: "good", ended: "calm", done: "good", queued: "calm", idle: "calm", unloaded: "calm",
    loading: "busy", starting: "busy", stalled: "bad", down: "bad", failed: "bad", gone: "bad", backoff: "busy",
    draining: "busy", drained: "busy", stopped: "bad", crashed: "bad", restarting: "busy", stopping: "busy", waiting: "busy",
};

// A state as a word with a dot. The word says all that the colour says.
export function state(word, tone) {
    return h("span", {class: `state ${tone ?? TONES[word] ?? "calm"}`}, h("span", {class: "dot", "aria-hidden": "true"}), word);
}

// A part of a view with a heading.
export function section(title, ...children) {
    return h("section", {class: "section", "aria-label": title}, h("h2", {}, title), children);
}

// One figure with its name, and a smaller line below.
export function tile(name, value, note) {
    return h("div", {class: "tile"}, h("dt", {}, name), h("dd", {}, value), note ? h("dd", {class: "note"}, note) : null);
}

export function notice(tone, ...children) {
    return h("div", {class: `notice ${tone}`, role: tone === "bad" ? "alert" : "status"}, children);
}

// An id or another text of a machine, in a fixed width.
export function code(text) {
    return h("code", {}, text);
}

export function button(label, attributes) {
    return h("button", {type: "button", ...attributes}, label);
}

// How much of a whole is used: a number with a bar.
export function usage(used, total, words) {
    return bar(used, total, words, used >= total ? "full" : "");
}

// A part of a whole: a number with a bar.
export function share(part, whole) {
    return bar(part, whole, whole > 0 ? `${Math.round((part / whole) * 100)} %` : "–", "");
}

function bar(part, whole, words, tone) {
    const width = whole > 0 ? Math.min(1, part / whole) : 0;
    return h("span", {class: "usage"},
        h("span", {class: "usage-bar", "aria-hidden": "true"},
            h("span", {class: tone, style: {width: `${(width * 100).toFixed(1)}%`}})),
        h("span", {class: "usage-words"}, words));
}

// Why a view has no data, or no newer data.
export function problem(error, what) {
    if (error.status === 404) return notice("calm", `This node does not show ${what}.`);
    if (error.status === 403) return notice("bad", `This key may not see ${what}. Sign in with a key for operators.`);
    return notice("bad", `${capital(what)} cannot be shown now: ${error.message}`);
}

const capital = text => text[0].toUpperCase() + text.slice(1);

// The descriptions of a view that needs the answer of one source: `draw` gets the answer.
export function needing(context, name, what, draw) {
    const data = context.data(name), error = context.error(name);
    if (data !== null) return [error ? problem(error, what) : null, draw(data)];
    return error ? problem(error, what) : h("p", {class: "loading", role: "status"}, "Loading …");
}

// A labelled control of a form. `id` joins the label to the control, and `hint` explains the control.
export function field(id, label, control, hint) {
    const described = hint ? {"aria-describedby": `${id}-hint`} : {};
    return h("div", {class: "field"},
        h("label", {for: id}, label),
        {...control, attributes: {...control.attributes, id, ...described}},
        hint ? h("p", {class: "hint", id: `${id}-hint`}, hint) : null);
}

// A sentence in the place of something that is not there.
export const emptyNote = text => h("p", {class: "note"}, text);
