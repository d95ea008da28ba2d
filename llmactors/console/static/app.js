// Starts the console: asks who looks at it, shows the view that the address names, and keeps its data fresh.

import {render} from "./dom.js";
import {loginPage} from "./login.js";
import {Poller} from "./poll.js";
import {askSession, signOut} from "./session.js";
import {shell, startPage} from "./shell.js";
import {view as deadLetters} from "./views/dead_letters.js";
import {view as drills} from "./views/drills.js";
import {view as models} from "./views/models.js";
import {view as overview} from "./views/overview.js";
import {view as playground} from "./views/playground.js";
import {view as queue} from "./views/queue.js";
import {view as request} from "./views/request.js";
import {view as requests} from "./views/requests.js";
import {view as tenants} from "./views/tenants.js";
import {view as tree} from "./views/tree.js";
import {view as usage} from "./views/usage.js";

const VIEWS = [overview, models, requests, queue, deadLetters, tree, tenants, usage, playground, drills];
const RETRY_MS = 2000;
const root = document.getElementById("console");

let session = null, place = placeOf(location.hash), drawn = null, startProblem = null, due = false;
const poller = new Poller(redraw, askAgain);

// The view, its argument and its query in an address such as #/requests/req_1 or #/requests?state=running.
function placeOf(hash) {
    const [path, query] = hash.replace(/^#\/?/, "").split("?", 2);
    const [name, ...rest] = path.split("/");
    return {name, argument: decoded(rest.join("/")), query: new URLSearchParams(query ?? "")};
}

function decoded(text) {
    try {
        return decodeURIComponent(text);
    } catch {
        return text;
    }
}

function availableViews() {
    return VIEWS.filter(each => (!session.readOnly || each.onWorker) && (each.path !== "drills" || session.drills));
}

function openView() {
    if (place.name === "requests" && place.argument) return request;
    return availableViews().find(each => each.path === place.name) ?? overview;
}

function context() {
    return {
        ...place,
        session,
        redraw,
        data: name => poller.data(name),
        error: name => poller.error(name),
        refresh: (...names) => poller.refresh(...names),
        go: hash => { location.hash = hash; },
    };
}

function redraw() {
    if (due) return;
    due = true;
    requestAnimationFrame(draw);
}

function draw() {
    due = false;
    if (session === null) {
        render(root, startPage(startProblem));
        return;
    }
    if (session.keys && !session.operator) {
        document.title = "Sign in · llmactors";
        poller.watch({});
        render(root, loginPage({redraw, entered: askAgain}));
        return;
    }
    const view = openView(), now = context();
    const shared = session.readOnly ? {} : {letterCount: {path: "/v1/operator/dead-letters?limit=1", everyS: 15}};
    poller.watch({...shared, ...view.sources?.(now)});
    document.title = `${view.title} · llmactors`;
    render(root, shell({
        view, context: now, views: availableViews(), lostSince: poller.lostSince, answeredAt: poller.answeredAt,
        leave: session.keys ? leave : null,
    }));
    if (drawn !== null && drawn !== location.hash) {
        document.getElementById("main").focus({preventScroll: true});
        scrollTo(0, 0);
    }
    drawn = location.hash;
}

async function askAgain() {
    try {
        session = await askSession();
        startProblem = null;
    } catch (error) {
        if (session === null) {
            startProblem = error;
            setTimeout(askAgain, RETRY_MS);
        }
    }
    redraw();
}

async function leave() {
    try {
        await signOut();
    } finally {
        await askAgain();
    }
}

addEventListener("hashchange", () => {
    place = placeOf(location.hash);
    redraw();
});
// Ages and the time since the last answer grow also while no answer comes.
setInterval(() => { if (!document.hidden) redraw(); }, 1000);
askAgain();
