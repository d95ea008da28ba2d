// A question before something is changed. The browser's own dialog keeps the focus inside, and Escape closes it.

import {h, render} from "./dom.js";
import {button} from "./parts.js";

// Asks, and does `action` on a yes. `choice` is one more control of the question. What `action` throws is shown in the dialog, which then stays open.
export function confirm({title, text, choice, yes, dangerous = false, action}) {
    const dialog = document.createElement("dialog");
    dialog.setAttribute("aria-labelledby", "dialog-title");
    const before = document.activeElement;
    let problem = null, busy = false;
    const draw = () => render(dialog,
        h("h2", {id: "dialog-title"}, title),
        [text].flat().map(each => h("p", {}, each)),
        choice,
        problem ? h("p", {class: "notice bad", role: "alert"}, problem) : null,
        h("div", {class: "dialog-buttons"},
            button("Cancel", {onclick: () => dialog.close()}),
            button(busy ? "One moment …" : yes, {
                class: dangerous ? "dangerous" : "primary", disabled: busy, onclick: answered,
            })));
    async function answered() {
        busy = true;
        draw();
        try {
            await action();
            dialog.close();
        } catch (error) {
            problem = error.message;
            busy = false;
            draw();
        }
    }
    dialog.addEventListener("close", () => {
        dialog.remove();
        if (before?.isConnected) before.focus();
    });
    draw();
    document.body.append(dialog);
    dialog.showModal();
}
