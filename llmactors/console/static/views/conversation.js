// How one turn of a conversation looks: the message, the answer, and what happened on the way.

import {h} from "../dom.js";
import {duration} from "../format.js";
import {button, code, notice} from "../parts.js";

export function answerCard({asked, answer}) {
    return h("article", {class: "turn"},
        h("div", {class: "bubble asked"}, h("h3", {}, "You"), h("p", {class: "text"}, asked)),
        h("div", {class: "bubble answered", "aria-busy": String(answer.running)},
            h("h3", {}, "Model"),
            answer.reasoning ? h("details", {class: "reasoning"}, h("summary", {}, "Reasoning"), h("p", {class: "text"}, answer.reasoning)) : null,
            h("p", {class: "text"}, answer.text, answer.running ? h("span", {class: "cursor", "aria-hidden": "true"}) : null),
            answer.standing ? h("p", {class: "note", role: "status"}, answer.standing) : null,
            answer.calls.map((call, at) => h("div", {class: "call", key: `call ${at}`},
                h("p", {}, "Calls ", code(call.name)), h("pre", {}, pretty(call.arguments)))),
            answer.error ? notice("bad", answer.error) : null),
        notes(answer));
}

// What happened to the connection, with the time since the request was sent.
function notes(answer) {
    return h("ol", {class: "notes", "aria-label": "What happened"}, answer.notes.map((each, at) =>
        h("li", {key: at, class: each.tone}, h("span", {class: "note-time"}, duration(each.at)), h("span", {}, each.text))),
    answer.requestId ? h("li", {key: "id"}, h("span", {class: "note-time"}, "Id"), h("span", {},
        h("a", {href: `#/requests/${encodeURIComponent(answer.requestId)}`}, code(answer.requestId)))) : null);
}

function pretty(text) {
    try {
        return JSON.stringify(JSON.parse(text), null, 2);
    } catch {
        return text;
    }
}

export function codeBlock(title, text) {
    return h("figure", {class: "code-block"},
        h("figcaption", {}, title, button("Copy", {class: "quiet", "aria-label": `Copy: ${title}`, onclick: event => copy(event.target, text)})),
        h("pre", {tabindex: 0}, text));
}

// Copies the text. A browser that allows no copies, as on a page without TLS, gets the text selected instead.
async function copy(pressed, text) {
    try {
        await navigator.clipboard.writeText(text);
        pressed.textContent = "Copied";
        setTimeout(() => { pressed.textContent = "Copy"; }, 1500);
    } catch {
        const range = document.createRange();
        range.selectNodeContents(pressed.closest("figure").querySelector("pre"));
        getSelection().removeAllRanges();
        getSelection().addRange(range);
    }
}
