// The page that asks for an operator's key.

import {Lost} from "./api.js";
import {h} from "./dom.js";
import {notice} from "./parts.js";
import {signIn} from "./session.js";

let problem = null, busy = false;

// The form. `entered` is called after the node has accepted the key.
export function loginPage({redraw, entered}) {
    async function submitted(event) {
        event.preventDefault();
        const input = event.target.elements.key;
        const key = input.value.trim();
        if (!key || busy) return;
        busy = true;
        problem = null;
        redraw();
        try {
            await signIn(key);
            input.value = "";
            await entered();
        } catch (error) {
            problem = explanation(error);
            input.select();
        } finally {
            busy = false;
            redraw();
        }
    }
    return h("main", {id: "main", class: "login", tabindex: -1},
        h("form", {class: "card", onsubmit: submitted, method: "post"},
            h("img", {src: "/console/icon.svg", alt: "", width: 40, height: 40}),
            h("h1", {}, "Sign in"),
            h("p", {}, "The console needs a key for operators."),
            problem ? notice("bad", problem) : null,
            h("div", {class: "field"},
                h("label", {for: "login-key"}, "Operator key"),
                h("input", {
                    id: "login-key", name: "key", type: "password", autocomplete: "current-password", required: true,
                    spellcheck: "false", "aria-describedby": "login-hint", autofocus: true,
                }),
                h("p", {class: "hint", id: "login-hint"},
                    "Make one with ", h("code", {}, "python -m llmactors keys create --operator"), ".")),
            h("button", {type: "submit", class: "primary", disabled: busy}, busy ? "Signing in …" : "Sign in")));
}

function explanation(error) {
    if (error instanceof Lost) return "The node does not answer. Try again in a moment.";
    if (error.status === 401) return "The node does not know this key, or the key has expired.";
    if (error.status === 403) return "This key belongs to a tenant. The console needs a key that was made with --operator.";
    return error.message;
}
