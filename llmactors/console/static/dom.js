// Draws the page from descriptions. A view is a function from data to descriptions of elements; `render` makes the
// page equal to them, and keeps every element that stays, with its focus, its selection and its scroll position.
// Strings always become text nodes, never HTML.

const SVG = "http://www.w3.org/2000/svg";
const ATTRIBUTES = Symbol("attributes");
const ELEMENT_KEY = Symbol("key");
const OWNED = Symbol("owned");
const PROPERTIES = new Set(["value", "checked", "disabled", "open", "selected", "readOnly"]);

// Describes an element. `key` names an element among its siblings; functions such as `onclick` are listeners, and
// `style` is an object of CSS properties. A description can be a DOM element too, which is then left as it is.
export function h(tag, attributes, ...children) {
    return {tag, attributes: attributes || {}, children};
}

// Makes the children of `parent` equal to the descriptions.
export function render(parent, ...descriptions) {
    const wanted = descriptions.flat(Infinity).filter(each => each !== null && each !== undefined && each !== false);
    const keyed = new Map();
    const keys = new Set(wanted.map(each => each.attributes?.key).filter(key => key !== undefined));
    for (const child of [...parent.childNodes]) {
        const key = child[ELEMENT_KEY];
        if (key === undefined) continue;
        if (keys.has(key)) keyed.set(key, child);
        else child.remove();
    }
    let at = parent.firstChild;
    for (const each of wanted) {
        const node = matching(each, at, keyed) ?? create(each, parent);
        if (node === at) at = at.nextSibling;
        else parent.insertBefore(node, at);
        update(node, each);
    }
    while (at !== null) {
        const next = at.nextSibling;
        at.remove();
        at = next;
    }
}

function matching(description, at, keyed) {
    if (description instanceof Node) {
        description[OWNED] = true;
        return description;
    }
    if (description.tag === undefined) return at?.nodeType === Node.TEXT_NODE ? at : null;
    const key = description.attributes.key;
    if (key !== undefined) {
        const found = keyed.get(key);
        return found?.localName === description.tag ? found : null;
    }
    const fits = at?.nodeType === Node.ELEMENT_NODE && at[ELEMENT_KEY] === undefined && !at[OWNED];
    return fits && at.localName === description.tag ? at : null;
}

function create(description, parent) {
    if (description.tag === undefined) return document.createTextNode("");
    const inSvg = description.tag === "svg" || (parent.namespaceURI === SVG && parent.localName !== "foreignObject");
    const made = inSvg ? document.createElementNS(SVG, description.tag) : document.createElement(description.tag);
    made[ELEMENT_KEY] = description.attributes.key;
    return made;
}

function update(node, description) {
    if (description instanceof Node) return;
    if (description.tag === undefined) {
        const text = String(description);
        if (node.data !== text) node.data = text;
        return;
    }
    const before = node[ATTRIBUTES] ?? {}, now = description.attributes;
    node[ATTRIBUTES] = now;
    // The value of a list of choices can be set only once its choices are there.
    if (node.localName !== "textarea") render(node, ...description.children);
    for (const name of Object.keys(before)) if (!(name in now)) change(node, name, before[name], undefined);
    for (const name of Object.keys(now)) if (now[name] !== before[name]) change(node, name, before[name], now[name]);
    // A control that reports each input always has the described value. Any other keeps what a person is typing.
    if (now.oninput && "value" in now && node.value !== String(now.value)) node.value = now.value;
}

function change(node, name, before, now) {
    if (name === "key") return;
    if (name === "style") {
        for (const each of Object.keys(before ?? {})) if (!(each in (now ?? {}))) node.style.removeProperty(each);
        for (const [each, value] of Object.entries(now ?? {})) node.style.setProperty(each, value);
    } else if (name.startsWith("on")) {
        node[name] = now ?? null;
    } else if (PROPERTIES.has(name)) {
        node[name] = now ?? (name === "value" ? "" : false);
    } else if (now === undefined || now === null || now === false) {
        node.removeAttribute(name);
    } else {
        node.setAttribute(name, now === true ? "" : String(now));
    }
}
