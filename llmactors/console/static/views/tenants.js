// The tenants, with their keys, limits and use. No secret of a key is ever shown: a node does not have it.

import {h} from "../dom.js";
import {ago, amount, count, time} from "../format.js";
import {code, needing, state, usage} from "../parts.js";
import {emptyState, table} from "../table.js";

const LIMIT_NAMES = {
    requests_per_minute: "Requests in a minute",
    tokens_per_minute: "Tokens in a minute",
    tokens_per_day: "Tokens in a day",
    concurrent: "Requests at a time",
    budget_per_day: "Money in a day",
    budget_per_month: "Money in a month",
    key_budget_per_day: "Money of this key in a day",
    key_budget_per_month: "Money of this key in a month",
};
const KEY_TONES = {active: "good", expired: "calm", revoked: "bad"};

const nameOf = limit => LIMIT_NAMES[limit] ?? limit.replaceAll("_", " ");
const shown = value => (typeof value === "number" ? count(value) : String(value));

// The limits of a key, one on a line.
function limits(key) {
    const entries = Object.entries(key.limits ?? {});
    if (!entries.length) return h("span", {class: "note"}, "no limits");
    return h("ul", {class: "plain"}, entries.map(([name, value]) => h("li", {key: name}, nameOf(name), " ", h("b", {}, shown(value)))));
}

const columns = [
    {title: "Key", cell: each => [code(each.id), each.name ? ` ${each.name}` : null]},
    {title: "State", cell: each => state(each.state, KEY_TONES[each.state])},
    {title: "For", cell: each => (each.operator ? "operators" : "clients")},
    {title: "Models", cell: each => (each.models?.length ? each.models.join(", ") : "all")},
    {title: "Class", hint: "The best class that the key may ask for; class 0 is served first", numeric: true, cell: each => count(each.class)},
    {title: "Weight", hint: "The tenant's share of its class: 2 gets twice the tokens of 1", numeric: true, cell: each => amount(each.weight)},
    {title: "Limits", cell: limits, wide: true},
    {title: "Made", cell: each => ago(each.created_unix_s)},
    {title: "Expires", cell: each => (each.expires_unix_s ? time(each.expires_unix_s) : "never")},
];

// What is used of each limit; where keys of a tenant differ, the highest limit counts.
function standings({keys, use}) {
    const most = name => Math.max(0, ...keys.map(each => Number(each.limits?.[name] ?? 0)));
    const limited = Object.keys(LIMIT_NAMES).filter(name => name in use && most(name) > 0);
    return limited.map(name => h("div", {key: name}, h("dt", {}, nameOf(name)),
        h("dd", {}, usage(Number(use[name]), most(name), `${shown(use[name])} of ${count(most(name))}`))));
}

function tenant(each) {
    const {use} = each;
    return h("section", {class: "card", key: each.tenant, "aria-label": `Tenant ${each.tenant}`},
        h("h2", {}, each.tenant || "Without a name"),
        h("dl", {class: "use"},
            h("div", {}, h("dt", {}, "Requests today"), h("dd", {}, count(use.requests_today))),
            h("div", {}, h("dt", {}, "Tokens today"), h("dd", {}, count(use.tokens_today))),
            Number(use.cost_today) > 0 ? h("div", {}, h("dt", {}, "Cost today"), h("dd", {}, use.cost_today)) : null,
            standings(each)),
        each.keys.length ? table({label: `Keys of ${each.tenant}`, columns, rows: each.keys, key: key => key.id})
            : h("p", {class: "note"}, "Callers of this tenant have no key of their own."));
}

export const view = {
    path: "tenants",
    title: "Tenants",
    sources: () => ({tenants: {path: "/v1/operator/tenants", everyS: 3}}),
    draw: context => needing(context, "tenants", "the tenants", ({tenants, total}) => [
        tenants.length < total ? h("p", {class: "note"}, `The first ${count(tenants.length)} of ${count(total)} tenants.`) : null,
        tenants.length
            ? h("div", {class: "cards"}, tenants.map(tenant))
            : emptyState("No tenant is known", "A tenant appears with its first request, or with its first key: python -m llmactors keys create --tenant NAME."),
        tenants.length ? h("p", {class: "note"}, "Keys are changed by commands: ", code("keys update KEY --tokens-per-day N"),
            " changes a limit at once, ", code("keys rotate KEY --overlap 1h"), " gives a new secret, ", code("keys revoke KEY"),
            " ends a key, and ", code("keys create --tenant NAME"), " makes one. Each begins with ", code("python -m llmactors"), ".") : null,
    ]),
};
