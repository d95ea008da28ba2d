// One streamed answer, which goes on by itself after its connection was cut.

import {Lost, parsed, refusal, Refused} from "./api.js";
import {count, duration} from "./format.js";
import {events} from "./sse.js";

const RETRY_MS = 1000;
const GIVE_UP_MS = 60000;

class Cut extends Error {}

// What the two APIs have in common: the connection, the waits between tries, and the notes for the person who watches.
class Answer {
    text = "";
    reasoning = "";
    calls = [];
    finish = null;
    usage = null;
    error = null;
    notes = [];
    arrivals = [];
    cuts = 0;
    requestId = null;
    standing = null;
    began = performance.now();
    firstAt = null;
    endedAt = null;
    #abort = null;
    #headers;
    #onChange;
    #stopped = false;

    constructor({apiKey, onChange}) {
        this.#headers = apiKey ? {authorization: `Bearer ${apiKey}`} : {};
        this.#onChange = onChange;
    }

    get running() {
        return this.endedAt === null;
    }

    get seconds() {
        return ((this.endedAt ?? performance.now()) - this.began) / 1000;
    }

    // Asks, and follows the answer to its end over as many connections as it takes.
    async run() {
        let lostAt = null;
        while (this.running) {
            try {
                await this.once(() => { lostAt = null; });
                if (this.running) throw new Cut();
            } catch (error) {
                if (!this.running) break;
                if (error instanceof Refused) {
                    this.fail(error.message);
                    break;
                }
                if (!(error instanceof Cut)) {
                    this.fail(`this page could not read the answer: ${error.message}`);
                    throw error;
                }
                const now = performance.now();
                if (lostAt === null) {
                    lostAt = now;
                    this.cuts += 1;
                    this.note("bad", this.requestId === null ? "No connection." : `The connection was cut ${this.reached()}.`);
                }
                if (now - lostAt > GIVE_UP_MS) {
                    this.fail("the node did not answer for 60 s");
                    break;
                }
                await new Promise(resolve => setTimeout(resolve, RETRY_MS));
            }
        }
        this.#onChange();
    }

    // Opens one connection, and gives the events of its stream. A connection that ends in any way but an event's is cut.
    async *connect(method, path, body, headers) {
        this.#abort = new AbortController();
        let reply;
        try {
            reply = await fetch(path, {
                method, signal: this.#abort.signal, body: body && JSON.stringify(body),
                headers: {...this.#headers, ...(body ? {"content-type": "application/json"} : {}), ...headers},
            });
        } catch {
            throw new Cut();
        }
        if (!reply.ok) {
            const error = refusal(reply.status, parsed(await reply.text().catch(() => "")));
            // A node that restarts answers 503 for a moment.
            if (error instanceof Lost || (error.status === 503 && this.requestId !== null)) throw new Cut();
            throw error;
        }
        this.requestId ??= reply.headers.get("x-request-id");
        const place = Number(reply.headers.get("x-queue-place"));
        if (place) this.note("calm", `Waited in the queue, at first on place ${count(place)}.`);
        if (reply.status === 204) return;
        try {
            yield* events(reply.body);
        } catch (error) {
            if (!this.running) throw error;
            throw new Cut();
        }
    }

    // Cuts the connection, as a lost network would. The answer goes on after a second.
    cut() {
        this.#abort?.abort();
    }

    // Ends the request at the node.
    async stop() {
        if (!this.running || this.#stopped) return;
        this.#stopped = true;
        this.note("calm", "Asked the node to end the request.");
        if (this.requestId === null) {
            this.end("cancelled");
            this.#abort?.abort();
            return;
        }
        await fetch(`/v1/streams/${encodeURIComponent(this.requestId)}`, {method: "DELETE", headers: this.#headers}).catch(() => null);
    }

    // The request waits in the queue. The first place is a note; later ones only replace what is shown.
    waits(place, estimateS) {
        const words = `on place ${count(place)} of the queue${estimateS === null ? "" : `, for about ${duration(estimateS)}`}`;
        if (this.standing === null) this.note("calm", `Waits ${words}.`);
        this.standing = `Waits ${words} …`;
        this.#onChange();
    }

    arrived() {
        this.arrivals.push(performance.now());
        if (this.firstAt === null) {
            this.firstAt = performance.now();
            this.note("calm", `First token after ${duration((this.firstAt - this.began) / 1000)}.`);
        }
        this.#onChange();
    }

    end(finish) {
        this.finish = finish;
        this.endedAt = performance.now();
        const tokens = this.usage?.completion_tokens;
        const rate = tokens > 1 && this.firstAt ? `, ${(tokens / ((this.endedAt - this.firstAt) / 1000)).toFixed(1)} per second` : "";
        this.note("good", `Ended (${finish}) after ${duration(this.seconds)}${tokens === undefined ? "" : `: ${count(tokens)} tokens${rate}`}.`);
    }

    fail(message) {
        // OpenAI's routes tell a client that ended its own request of an error.
        if (this.#stopped) {
            this.end("cancelled");
            return;
        }
        this.error = message;
        this.endedAt = performance.now();
        this.note("bad", message);
    }

    note(tone, text) {
        this.notes.push({at: this.seconds, tone, text});
        this.#onChange();
    }
}

// An answer of the native API. Its events are numbered, so a cut stream goes on behind the last event that came.
export class NativeAnswer extends Answer {
    body;
    last = 0;
    wrong = 0;
    #key = crypto.getRandomValues(new Uint32Array(4)).join("-");

    constructor(body, options) {
        super(options);
        this.body = body;
    }

    reached() {
        return `behind event ${count(this.last)}`;
    }

    async once(connected) {
        const again = this.requestId !== null;
        const path = again ? `/v1/streams/${encodeURIComponent(this.requestId)}` : "/v1/generate";
        if (again) this.note("calm", `Following again: GET ${path} with Last-Event-ID: ${this.last}`);
        const stream = again
            ? this.connect("GET", path, undefined, {"last-event-id": String(this.last)})
            : this.connect("POST", path, this.body, {"idempotency-key": this.#key});
        let first = true;
        for await (const {id, event, data} of stream) {
            const told = parsed(data);
            connected();
            if (event === "error" && id === null) throw new Cut();
            if (event === "queued") {
                this.waits(told.place, told.estimate_s);
                continue;
            }
            this.standing = null;
            if (again && first) this.note("good", `Goes on with event ${id}: nothing is lost, and nothing comes twice.`);
            first = false;
            const seq = Number(id);
            if (seq !== this.last + 1) {
                this.wrong += 1;
                this.note("bad", `Event ${seq} came behind event ${this.last}.`);
            }
            this.last = seq;
            if (event === "token") {
                this.text += told.text;
                this.arrived();
            } else if (event === "done") {
                this.usage = told.usage;
                this.end(told.finish_reason);
                return;
            } else if (event === "error") {
                this.fail(told.error.message);
                return;
            }
        }
    }
}

// An answer of OpenAI's API. Its events have no numbers: the same call with the same key gets the answer from its
// beginning again, and what the page has shown stays.
export class ChatAnswer extends Answer {
    body;
    #key = crypto.getRandomValues(new Uint32Array(4)).join("-");

    constructor(body, options) {
        super(options);
        this.body = body;
    }

    reached() {
        return `behind ${count(this.text.length)} characters`;
    }

    async once(connected) {
        const again = this.requestId !== null;
        const shown = this.text;
        if (again) this.note("calm", "Asking again with the same Idempotency-Key.");
        const made = {text: "", reasoning: "", calls: []};
        let caughtUp = !again, finish = null;
        for await (const {data} of this.connect("POST", "/v1/chat/completions", this.body, {"idempotency-key": this.#key})) {
            connected();
            if (data === "[DONE]") {
                this.end(finish ?? "stop");
                return;
            }
            const chunk = parsed(data);
            if (chunk.error) {
                this.fail(chunk.error.message);
                return;
            }
            if (chunk.usage) this.usage = chunk.usage;
            const choice = chunk.choices[0];
            if (choice === undefined) continue;
            finish = choice.finish_reason ?? finish;
            add(made, choice.delta);
            if (!caughtUp && made.text.length >= shown.length) {
                caughtUp = true;
                const same = made.text.startsWith(shown);
                this.note(same ? "good" : "bad", same
                    ? "The repeated beginning is the same; the answer goes on behind it."
                    : "The repeated beginning differs from what came before the cut.");
            }
            if (caughtUp) {
                Object.assign(this, made);
                this.arrived();
            }
        }
    }
}

function add(made, delta) {
    made.text += delta.content ?? "";
    made.reasoning += delta.reasoning_content ?? delta.reasoning ?? "";
    for (const call of delta.tool_calls ?? []) {
        const known = made.calls[call.index] ?? {id: "", name: "", arguments: ""};
        made.calls[call.index] = {
            id: call.id ?? known.id,
            name: known.name + (call.function?.name ?? ""),
            arguments: known.arguments + (call.function?.arguments ?? ""),
        };
    }
}
