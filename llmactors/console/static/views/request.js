// One request: where did its time go?

import {h} from "../dom.js";
import {count, duration, isNumber, time} from "../format.js";
import {code, emptyNote, needing, notice, section, state, tile} from "../parts.js";
import {table} from "../table.js";

// The parts of a request's life, in their order: {name, words, from, to, tone}. A part that goes on ends now.
function phases(request, nowS) {
    const {admitted_unix_s: admitted, first_token_unix_s: first, ended_unix_s: ended} = request;
    const end = ended ?? nowS;
    const claimed = request.claims?.[0]?.unix_s;
    const found = [];
    const add = (name, from, to, tone) => {
        if (isNumber(from) && isNumber(to) && to >= from) found.push({name, from, to, tone});
    };
    add("Waited in the queue", admitted, claimed ?? end, 2);
    if (isNumber(claimed)) {
        add("Waited for the first token", claimed, first ?? end, 3);
        if (isNumber(first)) add("Made tokens", first, end, 1);
    }
    return found;
}

function timeline(request, nowS) {
    const found = phases(request, nowS);
    const from = request.admitted_unix_s, to = request.ended_unix_s ?? nowS;
    const whole = Math.max(to - from, 0.001);
    const share = seconds => `${Math.round((seconds / whole) * 100)} %`;
    const place = at => `${(((at - from) / whole) * 100).toFixed(2)}%`;
    const longest = found.reduce((one, other) => (other.to - other.from > one.to - one.from ? other : one), found[0]);
    const later = (request.claims ?? []).slice(1);
    return [
        longest ? h("p", {class: "answer"}, `${longest.name} for `, h("b", {}, duration(longest.to - longest.from)),
            `: ${share(longest.to - longest.from)} of its ${duration(whole)}${request.ended_unix_s ? "" : " so far"}.`) : null,
        h("div", {class: "timeline", "aria-hidden": "true"},
            found.map(each => h("span", {
                key: each.name, class: `phase tone-${each.tone}`,
                style: {left: place(each.from), width: `${(((each.to - each.from) / whole) * 100).toFixed(2)}%`},
            })),
            later.map(each => h("span", {key: `claim ${each.epoch}`, class: "claim-mark", style: {left: place(each.unix_s)}}))),
        table({
            label: "Where its time went", key: each => each.name, rows: found,
            columns: [
                {title: "Part", cell: each => [h("span", {class: `swatch tone-${each.tone}`, "aria-hidden": "true"}), each.name]},
                {title: "Took", numeric: true, cell: each => duration(each.to - each.from)},
                {title: "Share", numeric: true, cell: each => share(each.to - each.from)},
                {title: "From", numeric: true, cell: each => time(each.from)},
                {title: "To", numeric: true, cell: each => (each.to === nowS ? "now" : time(each.to))},
            ],
        }),
    ];
}

// Why a claim is over, by the cause that the ledger remembers.
const CLAIM_ENDS = {
    handed_back: "The worker handed the request back.",
    preempted: "A more urgent request took the slot.",
    crashed: "The backend crashed.",
    left: "The worker left.",
    replaced: "The worker died, and its node came back.",
    silent: "The worker was silent, and its lease ended.",
    disconnected: "The worker lost its connection to Redis.",
    repaired: "Redis had lost tokens, and a gateway wrote them back.",
};

function claimEnd(claim, request) {
    if (claim.cause) return CLAIM_ENDS[claim.cause] ?? claim.cause;
    return request.ended_unix_s ? "The request ended here." : "The worker has the request.";
}

function claims(request) {
    const rows = request.claims ?? [];
    if (!rows.length) return emptyNote("No worker has claimed this request yet.");
    return table({
        label: "Claims", key: each => each.epoch, rows,
        columns: [
            {title: "Claim", numeric: true, cell: each => count(rows.indexOf(each) + 1)},
            {title: "Worker", cell: each => each.worker || "–", wide: true},
            {title: "At", cell: each => time(each.unix_s)},
            {title: "After", numeric: true, cell: each => duration(each.unix_s - request.admitted_unix_s)},
            {
                title: "What became of it", wide: true,
                cell: each => [claimEnd(each, request), each.detail ? h("span", {class: "note"}, ` ${each.detail}`) : null],
            },
            {title: "Epoch", hint: "By this number logs and traces name the claim", cell: each => code(String(each.epoch))},
        ],
    });
}

function details(request) {
    const nowS = Date.now() / 1000;
    const word = request.outcome || request.state;
    const tokensTook = isNumber(request.first_token_unix_s)
        ? (request.ended_unix_s ?? nowS) - request.first_token_unix_s : null;
    return [
        h("p", {class: "facts"}, state(word, request.outcome ? outcomeTone(request.outcome) : null),
            h("span", {}, "Model ", h("b", {}, request.model)),
            h("span", {}, "Tenant ", h("b", {}, request.tenant || "–")),
            request.key_id ? h("span", {}, "Key ", code(request.key_id)) : null,
            h("span", {}, "Class ", h("b", {}, count(request.class))),
            isNumber(request.place) ? h("span", {}, "Place in the queue ", h("b", {}, count(request.place))) : null,
            request.worker ? h("span", {}, "Worker ", h("b", {}, request.worker)) : null),
        h("dl", {class: "tiles"},
            tile("Age", duration((request.ended_unix_s ?? nowS) - request.admitted_unix_s), request.ended_unix_s ? "from admission to end" : "since admission"),
            tile("First token", isNumber(request.first_token_unix_s) ? duration(request.first_token_unix_s - request.admitted_unix_s) : "–", "after admission"),
            tile("Tokens", count(request.tokens), tokensTook > 0 && request.tokens > 1 ? `${(request.tokens / tokensTook).toFixed(1)} per second` : ""),
            tile("Attempts", count(request.attempts), "workers that have begun it"),
            tile("Takeovers", count(request.takeovers), "workers that went on with it")),
        section("Where its time went", timeline(request, nowS)),
        section("Claims", claims(request)),
    ];
}

// What is known of a request whose log is no longer kept: its record of usage, which is kept for a week.
function recorded({records: [record]}) {
    if (!record) return notice("calm", "No request with this id is known.");
    const parts = [["Waited in the queue", record.queue_s], ["Was at workers", record.run_s]];
    const [longest, longest_s] = parts[parts[0][1] > parts[1][1] ? 0 : 1];
    const whole = record.queue_s + record.run_s;
    return [
        notice("calm", "The claims and the text of this request are no longer kept. This is its record of usage."),
        h("p", {class: "facts"}, state(record.code, outcomeTone(record.code)),
            h("span", {}, "Model ", h("b", {}, record.model)),
            h("span", {}, "Tenant ", h("b", {}, record.tenant || "–")),
            record.key_id ? h("span", {}, "Key ", code(record.key_id)) : null,
            h("span", {}, "Class ", h("b", {}, count(record.class))),
            h("span", {}, "Ended ", h("b", {}, time(record.ended_unix_s)))),
        h("p", {class: "answer"}, `${longest} for `, h("b", {}, duration(longest_s)),
            whole > 0 ? `: ${Math.round((longest_s / whole) * 100)} % of its ${duration(whole)}.` : "."),
        h("dl", {class: "tiles"},
            tile("In the queue", duration(record.queue_s), "before it had a slot"),
            tile("At workers", duration(record.run_s), "until its end"),
            tile("Prompt tokens", count(record.prompt_tokens), `${count(record.cached_tokens)} of them from a cache`),
            tile("Answer tokens", count(record.completion_tokens),
                record.run_s > 0 && record.completion_tokens > 1 ? `${(record.completion_tokens / record.run_s).toFixed(1)} per second` : ""),
            tile("Attempts", count(record.attempts), "workers that have begun it")),
    ];
}

const outcomeTone = outcome => (["stop", "length", "done", "tool_calls"].includes(outcome) ? "good" : outcome === "cancelled" ? "calm" : "bad");

const isGone = context => [404, 410].includes(context.error("request")?.status);

export const view = {
    path: "request",
    parent: "requests",
    title: "Request",
    heading: () => "Request",
    sources: context => ({
        request: {path: `/v1/operator/requests/${encodeURIComponent(context.argument)}`, everyS: isGone(context) ? 60 : 1},
        ...(isGone(context) ? {record: {path: `/v1/operator/usage/records?id=${encodeURIComponent(context.argument)}`, everyS: 600}} : {}),
    }),
    draw: context => [
        h("p", {class: "crumbs"}, h("a", {href: "#/requests"}, "All requests"), " / ", code(context.argument)),
        isGone(context) ? needing(context, "record", "the record of this request", recorded)
            : needing(context, "request", "the request", details),
    ],
};
