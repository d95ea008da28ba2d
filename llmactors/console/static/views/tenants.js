// The tenants, with their keys, limits and use. No secret of a key is ever shown: a node does not have it.

import {h} from "../dom.js";
import {amount, time} from "../format.js";
import {code, needing} from "../parts.js";
import {emptyState, table} from "../table.js";

// A mapping such as {requests_per_minute: 60} in words.
function words(mapping) {
    const entries = Object.entries(mapping ?? {}).filter(([, value]) => value !== null && value !== undefined);
    if (!entries.length) return h("span", {class: "note"}, "none");
    return h("ul", {class: "plain"}, entries.map(([name, value]) =>
        h("li", {key: name}, name.replaceAll("_", " "), " ", h("b", {}, typeof value === "number" ? amount(value) : String(value)))));
}

const columns = [
    {title: "Key", cell: each => code(each.id)},
    {title: "For", cell: each => (each.operator ? "operators" : "clients")},
    {title: "Models", cell: each => (each.models?.length ? each.models.join(", ") : "all"), wide: true},
    {title: "Class", numeric: true, cell: each => (each.class ?? "–")},
    {title: "Limits", cell: each => words(each.limits), wide: true},
    {title: "Expires", cell: each => (each.expires_unix_s ? time(each.expires_unix_s) : "never")},
];

function tenant(each) {
    return h("section", {class: "card", key: each.tenant, "aria-label": `Tenant ${each.tenant}`},
        h("h2", {}, each.tenant || "Without a name"),
        h("div", {class: "use"}, h("span", {class: "note"}, "Use now: "), words(each.use)),
        table({
            label: `Keys of ${each.tenant}`, columns, rows: each.keys ?? [], key: key => key.id,
            empty: {title: "No key", text: "Callers of this tenant need none."},
        }));
}

export const view = {
    path: "tenants",
    title: "Tenants",
    sources: () => ({tenants: {path: "/v1/operator/tenants", everyS: 5}}),
    draw: context => needing(context, "tenants", "the tenants", ({tenants}) => (tenants.length
        ? h("div", {class: "cards"}, tenants.map(tenant))
        : emptyState("No tenant is known", "Make a key with python -m llmactors keys create --tenant NAME. A node without keys serves everybody."))),
};
