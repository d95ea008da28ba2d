// A chat with a model, with everything that the API takes, and with what happens when the connection is cut.

import {ChatAnswer, NativeAnswer} from "../answer.js";
import {h} from "../dom.js";
import {button, field} from "../parts.js";
import {answerCard, codeBlock} from "./conversation.js";
import {bodyOf, form, problems, settings} from "./parameters.js";
import {curl, curlFollow, openai} from "../snippets.js";

let turns = [];
let message = "";

const running = () => turns.at(-1)?.answer.running ?? false;

function send(context) {
    if (running() || !message.trim() || problems().length) return;
    const native = form.api === "native";
    const options = {apiKey: form.key, onChange: () => followEnd(context.redraw)};
    const body = bodyOf(message, turns);
    const answer = native ? new NativeAnswer(body, options) : new ChatAnswer(body, options);
    turns.push({asked: message, answer, native});
    message = "";
    answer.run();
    context.redraw();
    requestAnimationFrame(scrollToEnd);
}

// Keeps the end of the answer in sight, unless the person has scrolled up.
function followEnd(redraw) {
    const list = document.querySelector(".turns");
    const atEnd = list === null || list.scrollTop + list.clientHeight >= list.scrollHeight - 60;
    redraw();
    if (atEnd) requestAnimationFrame(scrollToEnd);
}

function scrollToEnd() {
    const list = document.querySelector(".turns");
    if (list !== null) list.scrollTop = list.scrollHeight;
}

function composer(context) {
    const redraw = context.redraw;
    const entered = event => {
        message = event.target.value;
        redraw();
    };
    return h("form", {
        class: "composer",
        onsubmit: event => {
            event.preventDefault();
            send(context);
        },
    },
        h("label", {for: "message", class: "visually-hidden"}, "Your message"),
        h("textarea", {
            id: "message", rows: 3, value: message, oninput: entered, placeholder: "Write a message. Enter sends it, Shift and Enter begin a new line.",
            onkeydown: event => {
                if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
                event.preventDefault();
                send(context);
            },
        }),
        h("div", {class: "composer-buttons"},
            running()
                ? [
                    button("Cut my connection", {key: "cut", onclick: () => turns.at(-1).answer.cut()}),
                    button("Stop", {key: "stop", onclick: () => turns.at(-1).answer.stop()}),
                ]
                : turns.length ? button("New conversation", {key: "new", class: "quiet", onclick: () => { turns = []; redraw(); }}) : null,
            h("button", {key: "send", type: "submit", class: "primary", disabled: running() || !message.trim() || problems().length > 0}, "Send")));
}

function snippets(context) {
    const native = form.api === "native";
    const withKey = context.session.keys;
    const body = bodyOf(message || "Why is the sky blue?", turns);
    if (body === null) return h("p", {class: "note"}, "Correct the marked fields first.");
    const newest = turns.at(-1)?.answer;
    return [
        codeBlock("curl", curl(location.origin, native ? "/v1/generate" : "/v1/chat/completions", body, withKey)),
        native
            ? codeBlock("curl, to go on after a cut", curlFollow(location.origin, newest?.requestId, newest?.last ?? 0, withKey))
            : codeBlock("Python with openai", openai(location.origin, body, withKey)),
        withKey ? h("p", {class: "note"}, "The key is read from the variable LLMACTORS_KEY.") : null,
    ];
}

export const view = {
    path: "playground",
    title: "Playground",
    sources: () => ({models: {path: "/v1/models", everyS: 4}}),
    draw: context => {
        const models = context.data("models")?.data ?? [];
        const status = turns.length === 0 ? "" : running() ? "The answer is on its way." : "The answer has ended.";
        return h("div", {class: "playground"},
            h("div", {class: "conversation"},
                turns.length ? null : h("div", {class: "empty"},
                    h("p", {class: "empty-title"}, "Ask a model something"),
                    h("p", {}, "While the answer streams, cut the connection, or kill the model elsewhere: the answer goes on by itself.")),
                h("ol", {class: "turns", tabindex: turns.length ? 0 : null, "aria-label": "Conversation"}, turns.map((turn, at) => h("li", {key: at}, answerCard(turn)))),
                h("p", {class: "visually-hidden", role: "status"}, status),
                composer(context)),
            h("aside", {class: "settings", "aria-label": "Parameters"},
                settings(models, context),
                h("details", {class: "snippets"}, h("summary", {}, "The same as code"), snippets(context))));
    },
};
