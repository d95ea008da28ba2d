// The frame around every view: the header, the navigation, and the banner of a lost node.

import {h} from "./dom.js";
import {count, duration, time} from "./format.js";
import {button} from "./parts.js";
import {switchTheme, theme} from "./theme.js";

const THEME_NAMES = {system: "Colours: system", light: "Colours: light", dark: "Colours: dark"};
const THEME_SIGNS = {system: "◐", light: "○", dark: "●"};
let menuOpen = false;

// The page before the node has said who looks at it.
export function startPage(problem) {
    return h("main", {id: "main", class: "login", tabindex: -1}, h("p", {class: "loading", role: "status"},
        problem ? "The node does not answer. This page tries again every 2 s." : "Loading …"));
}

export function shell({view, context, views, lostSince, answeredAt, leave}) {
    const {session, redraw} = context;
    const close = () => {
        menuOpen = false;
        redraw();
    };
    return [
        h("a", {class: "skip", href: "#main", onclick: skip}, "Skip to the view"),
        h("header", {class: "top"},
            h("a", {class: "brand", href: "#/"},
                h("img", {src: "/console/icon.svg", alt: "", width: 24, height: 24}), h("span", {}, "llmactors")),
            h("p", {class: "node-name"}, session.node,
                h("span", {class: "muted"}, ` ${session.version}${session.readOnly ? " · worker, to look at only" : ""}`)),
            liveness(lostSince, answeredAt),
            h("button", {
                type: "button", class: "icon-button", title: THEME_NAMES[theme()], "aria-label": THEME_NAMES[theme()],
                onclick: () => { switchTheme(); redraw(); },
            }, THEME_SIGNS[theme()]),
            leave ? button("Sign out", {class: "quiet", onclick: leave}) : null,
            button("Menu", {
                class: "menu-button", "aria-expanded": String(menuOpen), "aria-controls": "views",
                onclick: () => { menuOpen = !menuOpen; redraw(); },
            })),
        h("nav", {id: "views", class: menuOpen ? "views open" : "views", "aria-label": "Views"},
            h("ul", {}, views.map(each => h("li", {key: each.path}, h("a", {
                href: `#/${each.path}`, onclick: close,
                "aria-current": each === view || each.path === view.parent ? "page" : null,
            }, each.title, badge(each, context)))))),
        h("main", {id: "main", tabindex: -1, class: lostSince ? "stale" : null},
            lostSince ? h("div", {class: "banner", role: "alert"},
                h("b", {}, `No answer from this node since ${time(lostSince / 1000)}. `),
                "What you see is from that time. This page tries again every 2 s.") : null,
            h("div", {class: "view", key: `${view.path}/${context.argument}`},
                h("h1", {}, view.heading?.(context) ?? view.title),
                view.draw(context))),
    ];
}

// The address has the view after its "#", so the link cannot use the browser's own jump.
function skip(event) {
    event.preventDefault();
    document.getElementById("main").focus();
}

function badge(view, context) {
    const total = view.path === "dead-letters" ? context.data("letterCount")?.total : 0;
    return total ? h("span", {class: "badge", "aria-label": `${total} waiting`}, count(total)) : null;
}

function liveness(lostSince, answeredAt) {
    if (lostSince) return h("p", {class: "liveness lost"}, h("span", {class: "dot", "aria-hidden": "true"}), "No answer");
    const age = answeredAt ? (Date.now() - answeredAt) / 1000 : 0;
    return h("p", {class: "liveness"}, h("span", {class: "dot", "aria-hidden": "true"}),
        age > 12 ? `${duration(Math.round(age))} old` : "Live");
}
