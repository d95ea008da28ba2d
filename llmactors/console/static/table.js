// A table with headers, which can be sorted by its columns. On a narrow screen each row becomes a card (see parts.css);
// the roles keep it a table for screen readers.

import {h} from "./dom.js";

const sorting = new Map();

// columns: {title, cell: row => description, numeric?, sort?: row => value, wide?, hint?}. `title` must be unique, and
// `hint` explains it to a mouse that rests there.
export function table({label, columns, rows, key, empty, redraw, rowClass, caption}) {
    if (!rows.length && empty) return emptyState(empty.title, empty.text);
    const chosen = sorting.get(label);
    const column = columns.find(each => each.title === chosen?.title);
    const shown = column?.sort ? [...rows].sort(comparison(column.sort, chosen.descending)) : rows;
    return h("div", {class: "table-frame"},
        h("table", {role: "table", "aria-label": label},
            caption ? h("caption", {}, caption) : null,
            h("thead", {role: "rowgroup"}, h("tr", {role: "row"}, columns.map(each => heading(each, label, redraw)))),
            h("tbody", {role: "rowgroup"}, shown.map(row =>
                h("tr", {key: key(row), role: "row", class: rowClass?.(row)}, columns.map((each, at) =>
                    h("td", {
                        role: at === 0 ? "rowheader" : "cell",
                        class: [each.numeric ? "numeric" : "", each.wide ? "wide" : ""].join(" ").trim() || null,
                        "data-title": each.title,
                    }, h("div", {}, each.cell(row)))))))));
}

function heading(column, label, redraw) {
    const attributes = {scope: "col", role: "columnheader", class: column.numeric ? "numeric" : null, title: column.hint ?? null};
    if (!column.sort || !redraw) return h("th", attributes, column.title);
    const chosen = sorting.get(label);
    const active = chosen?.title === column.title;
    const direction = chosen?.descending ? "descending" : "ascending";
    const toggle = () => {
        const descending = active ? !chosen.descending : Boolean(column.numeric);
        sorting.set(label, {title: column.title, descending});
        redraw();
    };
    return h("th", {...attributes, "aria-sort": active ? direction : null},
        h("button", {type: "button", class: "sort", onclick: toggle}, column.title,
            h("span", {class: "sort-mark", "aria-hidden": "true"}, active ? (chosen.descending ? "▾" : "▴") : "")));
}

function comparison(value, descending) {
    const sign = descending ? -1 : 1;
    return (one, other) => {
        const a = value(one), b = value(other);
        if (a === b) return 0;
        if (a === null || a === undefined) return 1;
        if (b === null || b === undefined) return -1;
        return (a < b ? -1 : 1) * sign;
    };
}

// What stands in the place of a table that has no rows.
export function emptyState(title, text) {
    return h("div", {class: "empty"}, h("p", {class: "empty-title"}, title), text ? h("p", {}, text) : null);
}
