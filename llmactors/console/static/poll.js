// Asks routes again and again for the view that is open, and stops while nobody looks at the page.

import {get, Lost, Refused} from "./api.js";

const LOST_RETRY_S = 2;
const TICK_MS = 250;

const fresh = (wanted, data) => ({...wanted, due: 0, data, error: null, abort: null});
const sameRoute = (one, other) => one.split("?")[0] === other.split("?")[0];

// What a view knows: for each source its newest answer, and why there is no newer one.
export class Poller {
    #sources = new Map();
    #onChange;
    #onUnauthenticated;
    #timer = null;
    lostSince = null;
    answeredAt = null;

    constructor(onChange, onUnauthenticated) {
        this.#onChange = onChange;
        this.#onUnauthenticated = onUnauthenticated;
        document.addEventListener("visibilitychange", () => (document.hidden ? this.stop() : this.start()));
    }

    // Asks the given routes from now on: {name: {path, everyS}}. `path` is a text or a function. Answers stay where the
    // route stays, also with another query, so that a table does not vanish while a filter changes.
    watch(sources) {
        const wanted = Object.fromEntries(Object.entries(sources).map(([name, each]) => [name, {key: each.path, ...each}]));
        for (const [name, source] of this.#sources) {
            const next = wanted[name];
            if (next !== undefined && next.key === source.key) continue;
            source.abort?.abort();
            this.#sources.delete(name);
            if (next !== undefined && sameRoute(next.key, source.key)) this.#sources.set(name, fresh(next, source.data));
        }
        for (const [name, next] of Object.entries(wanted)) {
            if (!this.#sources.has(name)) this.#sources.set(name, fresh(next, null));
        }
        this.start();
    }

    data(name) {
        return this.#sources.get(name)?.data ?? null;
    }

    error(name) {
        return this.#sources.get(name)?.error ?? null;
    }

    // Asks the named routes at once, because something was changed.
    refresh(...names) {
        for (const [name, source] of this.#sources) if (!names.length || names.includes(name)) source.due = 0;
        this.#tick();
    }

    start() {
        if (this.#timer !== null || document.hidden) return;
        this.#timer = setInterval(() => this.#tick(), TICK_MS);
        this.#tick();
    }

    stop() {
        clearInterval(this.#timer);
        this.#timer = null;
    }

    #tick() {
        const now = performance.now() / 1000;
        for (const source of this.#sources.values()) if (!source.abort && source.due <= now) this.#ask(source);
    }

    async #ask(source) {
        source.abort = new AbortController();
        const {signal} = source.abort;
        let wait = source.everyS;
        try {
            source.data = await get(typeof source.path === "function" ? source.path() : source.path, signal);
            source.error = null;
            this.#answered();
        } catch (error) {
            if (signal.aborted) return;
            if (error instanceof Lost) {
                this.lostSince ??= this.answeredAt ?? Date.now();
                wait = LOST_RETRY_S;
            } else if (error instanceof Refused) {
                this.#answered();
                source.error = error;
                if (error.status === 401) this.#onUnauthenticated();
                // A route that this node does not have, or not for this caller, will not appear soon.
                if ([403, 404].includes(error.status)) wait = Math.max(wait, 10);
            } else {
                throw error;
            }
        } finally {
            source.abort = null;
        }
        source.due = performance.now() / 1000 + wait;
        this.#onChange();
    }

    #answered() {
        this.lostSince = null;
        this.answeredAt = Date.now();
    }
}
