// The parameters of the playground, and the body of the request that they make.

import {h} from "../dom.js";
import {field} from "../parts.js";

export const form = {
    api: "chat", model: "", system: "", temperature: "0.7", max_tokens: "256", top_p: "", seed: "", stop: "",
    tools: "", schema: "", key: "",
};

// The numbers: [name, label, hint, attributes].
const NUMBERS = [
    ["max_tokens", "Longest answer", "In tokens.", {min: 1, step: 1}],
    ["temperature", "Temperature", "0 always takes the most likely token.", {min: 0, max: 2, step: "any"}],
    ["top_p", "Top p", "", {min: 0, max: 1, step: "any"}],
    ["seed", "Seed", "Makes an answer repeatable.", {min: 0, step: 1}],
];

// What is wrong with a field of JSON, or with a number; "" where nothing is.
function wrong(name) {
    const text = form[name].trim();
    if (!text) return "";
    if (name === "tools" || name === "schema") {
        let found;
        try {
            found = JSON.parse(text);
        } catch (error) {
            return `This is no JSON: ${error.message}`;
        }
        if (name === "tools" && !Array.isArray(found)) return "Tools are a list: [ … ].";
        if (name === "schema" && (found === null || typeof found !== "object")) return "A schema is an object: { … }.";
        return "";
    }
    return Number.isFinite(Number(text)) ? "" : "This is no number.";
}

// The names of the fields that are used and wrong.
export function problems() {
    const used = [...NUMBERS.map(([name]) => name), ...(form.api === "chat" ? ["tools", "schema"] : [])];
    return used.filter(name => wrong(name));
}

// The body of the request for a message; null while a field is wrong.
export function bodyOf(message, turns) {
    if (problems().length) return null;
    const numbers = Object.fromEntries(NUMBERS.filter(([name]) => form[name].trim()).map(([name]) => [name, Number(form[name])]));
    const stop = form.stop ? {stop: form.stop.split("\n").filter(Boolean)} : {};
    const model = form.model ? {model: form.model} : {};
    if (form.api === "native") return {...model, prompt: message, ...numbers, ...stop, stream: true};
    const messages = form.system.trim() ? [{role: "system", content: form.system}] : [];
    for (const {asked, answer, native} of turns) {
        if (native || answer.error || !answer.text) continue;
        messages.push({role: "user", content: asked}, {role: "assistant", content: answer.text});
    }
    messages.push({role: "user", content: message});
    const tools = form.tools.trim() ? {tools: JSON.parse(form.tools)} : {};
    const schema = form.schema.trim()
        ? {response_format: {type: "json_schema", json_schema: {name: "answer", strict: true, schema: JSON.parse(form.schema)}}} : {};
    return {...model, messages, ...numbers, ...stop, ...tools, ...schema, stream: true, stream_options: {include_usage: true}};
}

export function settings(models, context) {
    const changed = name => event => {
        form[name] = event.target.value;
        context.redraw();
    };
    const text = (name, label, hint, attributes) => {
        const problem = wrong(name);
        const control = h("textarea", {
            rows: 3, value: form[name], oninput: changed(name), spellcheck: "false", "aria-invalid": problem ? "true" : null, ...attributes,
        });
        return field(`parameter-${name}`, label, control, problem || hint);
    };
    if (!form.model && models.length) form.model = models[0].id;
    const chat = form.api === "chat";
    return h("div", {class: "parameters"},
        field("parameter-model", "Model", h("select", {value: form.model, onchange: changed("model")},
            models.map(each => h("option", {key: each.id, value: each.id}, each.state === "ready" ? each.id : `${each.id} (${each.state})`)))),
        field("parameter-api", "API", h("select", {value: form.api, onchange: changed("api")},
            h("option", {value: "chat"}, "OpenAI's chat completions"),
            h("option", {value: "native"}, "Native stream with Last-Event-ID")),
        chat ? "After a cut, the same call with the same key comes again from its beginning." : "After a cut, the stream goes on behind the last event."),
        chat ? text("system", "System message", "") : null,
        h("div", {class: "numbers"}, NUMBERS.map(([name, label, hint, attributes]) => field(`parameter-${name}`, label, h("input", {
            type: "number", value: form[name], oninput: changed(name), inputmode: "decimal", ...attributes,
        }), hint))),
        text("stop", "Stop texts, one on a line", "", {rows: 2}),
        chat ? text("tools", "Tools, as JSON", "", {class: "machine", placeholder: "[{\"type\": \"function\", \"function\": {…}}]"}) : null,
        chat ? text("schema", "JSON schema of the answer", "", {class: "machine", placeholder: "{\"type\": \"object\", …}"}) : null,
        context.session.keys ? field("parameter-key", "Key", h("input", {
            type: "password", value: form.key, oninput: changed("key"), autocomplete: "off", placeholder: "your session",
        }), "Another key than that of your session. The page forgets it when it is closed.") : null);
}
