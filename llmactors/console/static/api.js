// Asks the node over its JSON routes, and knows whether the node answers.

const PATIENCE_MS = 10000;

// A refusal of the node, with its status, its code, its message, and all that the node told.
export class Refused extends Error {
    constructor(status, code, message, told) {
        super(message);
        this.status = status;
        this.code = code;
        this.told = told;
    }
}

// No answer came: the node is away, or the network is.
export class Lost extends Error {}

export const get = (path, signal) => ask("GET", path, undefined, signal);
export const post = (path, body) => ask("POST", path, body ?? {});
export const remove = path => ask("DELETE", path);

async function ask(method, path, body, signal) {
    const patience = AbortSignal.timeout(PATIENCE_MS);
    let answer, text;
    try {
        answer = await fetch(path, {
            method,
            headers: body === undefined ? {} : {"content-type": "application/json"},
            body: body === undefined ? undefined : JSON.stringify(body),
            signal: signal ? AbortSignal.any([signal, patience]) : patience,
        });
        text = await answer.text();
    } catch (error) {
        if (signal?.aborted) throw error;
        throw new Lost(`no answer to ${method} ${path}`);
    }
    const told = parsed(text);
    if (answer.ok) return told;
    throw refusal(answer.status, told);
}

// The error of an answer that is no success. A proxy in front of a dead node answers without the node's JSON.
export function refusal(status, told) {
    const error = told?.error;
    if (told === null && [502, 503, 504].includes(status)) return new Lost(`a proxy answered with ${status}`);
    const message = error?.message ?? `the node answered with ${status}`;
    return new Refused(status, error?.code ?? error?.type ?? "", message, told);
}

export function parsed(text) {
    try {
        return JSON.parse(text);
    } catch {
        return null;
    }
}
