// Charts over time, drawn as SVG. Pure geometry is in `scale.js`.

import {h, render} from "./dom.js";
import {count, tick as tickText} from "./format.js";
import {niceTicks, paths, columns} from "./scale.js";

const HEIGHT = 196;
const MARGIN = {left: 46, right: 14, top: 12, bottom: 38};
const SPANS_S = [4, 8, 12, 20, 40, 60].map(minutes => minutes * 60);

// One chart. `title` says what is shown, `unit` is the label of the vertical axis in words.
export class Chart {
    #options;
    #data = {series: [], stepS: 10};
    #width = 0;
    #marked = null;

    constructor({title, unit, format, stacked = false, empty}) {
        this.#options = {title, unit, format, stacked, empty};
        this.element = document.createElement("section");
        this.element.className = "chart";
        new ResizeObserver(([entry]) => {
            const width = Math.floor(entry.contentRect.width);
            if (width === this.#width) return;
            this.#width = width;
            this.#draw();
        }).observe(this.element);
    }

    // Shows `series`: [{name, values}], values newest last, `stepS` seconds apart, null where nothing was measured.
    show(series, stepS) {
        this.#data = {series, stepS};
        this.#draw();
    }

    get #length() {
        return Math.max(0, ...this.#data.series.map(each => each.values.length));
    }

    #draw() {
        if (!this.#width) return;
        const {title, unit, format, stacked, empty} = this.#options;
        const {series, stepS} = this.#data;
        const measured = series.filter(each => each.values.some(value => value !== null && (!stacked || value > 0)));
        const length = this.#length;
        const spanS = SPANS_S.find(each => each >= length * stepS) ?? SPANS_S.at(-1);
        const box = {
            left: MARGIN.left, right: this.#width - MARGIN.right, top: MARGIN.top, bottom: HEIGHT - MARGIN.bottom,
        };
        // The newest value stands at the right edge.
        const x = at => box.right - ((length - 1 - at) * stepS * (box.right - box.left)) / spanS;
        const most = Math.max(0, ...(stacked ? sums(measured, length) : measured.flatMap(each => each.values)));
        const ticks = niceTicks(most);
        const top = ticks.at(-1);
        const y = value => box.bottom - (value * (box.bottom - box.top)) / top;
        const at = this.#marked === null ? length - 1 : Math.min(this.#marked, length - 1);
        const named = series.map((each, index) => ({...each, tone: `tone-${each.tone ?? index + 1}`}));
        const shown = named.filter(each => measured.some(other => other.name === each.name));
        render(this.element,
            h("h3", {}, title),
            h("p", {class: "legend"}, (stacked ? shown : named).map(each => h("span", {key: each.name, class: "legend-entry"},
                h("span", {class: `swatch ${each.tone}`, "aria-hidden": "true"}),
                h("span", {}, each.name), h("b", {}, format(each.values[at]))))),
            h("div", {class: "plot"},
                h("svg", {
                    width: this.#width, height: HEIGHT, role: "img", tabindex: 0,
                    "aria-label": this.#summary(named, spanS),
                    onpointermove: event => this.#markAt(event.offsetX, box, spanS),
                    onpointerleave: () => this.#mark(null),
                    onblur: () => this.#mark(null),
                    onkeydown: event => this.#step(event),
                },
                    axes(box, ticks, y, spanS, unit),
                    stacked
                        ? columns(shown.map(each => each.values), length).map((stack, index) => stack.map(part =>
                            h("rect", {
                                class: `column ${shown[index].tone}`, key: `${index}.${part.at}`,
                                x: x(part.at) - barWidth(box, spanS, stepS), width: barWidth(box, spanS, stepS),
                                y: y(part.to), height: Math.max(0, y(part.from) - y(part.to)),
                            })))
                        : shown.map(each => h("path", {
                            key: each.name, class: `line ${each.tone}`, d: paths(each.values, x, y),
                        })),
                    this.#marked === null || !length ? null : h("line", {
                        class: "mark", x1: x(at), x2: x(at), y1: box.top, y2: box.bottom,
                    }),
                    this.#marked === null || !length ? null : h("text", {
                        class: "mark-time", y: box.top - 2,
                        x: Math.min(Math.max(x(at), box.left + 36), box.right - 36),
                    }, agoText((length - 1 - at) * stepS)),
                ),
                shown.length ? null : h("p", {class: "plot-empty"}, empty),
            ),
        );
    }

    #summary(named, spanS) {
        const {title, unit, format} = this.#options;
        const told = named.map(each => {
            const values = each.values.filter(value => value !== null);
            if (!values.length) return `${each.name}: nothing measured`;
            return `${each.name}: now ${format(each.values.at(-1))}, highest ${format(Math.max(...values))}`;
        });
        return `${title}, ${unit}, the last ${count(spanS / 60)} minutes. ${told.join("; ")}. Arrow keys move along the time.`;
    }

    #markAt(offset, box, spanS) {
        const back = ((box.right - offset) / (box.right - box.left)) * spanS;
        const length = this.#length;
        this.#mark(Math.max(0, Math.min(length - 1, length - 1 - Math.round(back / this.#data.stepS))));
    }

    #step(event) {
        const moves = {ArrowLeft: -1, ArrowRight: 1, PageUp: -6, PageDown: 6};
        const length = this.#length;
        if (!(event.key in moves) || !length) return;
        event.preventDefault();
        this.#mark(Math.max(0, Math.min(length - 1, (this.#marked ?? length - 1) + moves[event.key])));
    }

    #mark(at) {
        if (at === this.#marked) return;
        this.#marked = at;
        this.#draw();
    }
}

function sums(series, length) {
    return Array.from({length}, (_, at) => series.reduce((sum, each) => sum + (each.values[at] ?? 0), 0));
}

const barWidth = (box, spanS, stepS) => Math.max(1, ((box.right - box.left) * stepS) / spanS - 0.5);

function agoText(seconds) {
    if (seconds < 1) return "now";
    return seconds < 60 ? `${Math.round(seconds)} s ago` : `${(seconds / 60).toFixed(1)} min ago`;
}

function axes(box, ticks, y, spanS, unit) {
    const minutes = [1, 0.75, 0.5, 0.25, 0].map(part => (spanS * part) / 60);
    const x = minute => box.right - (minute * 60 * (box.right - box.left)) / spanS;
    const middle = (box.left + box.right) / 2;
    return [
        ticks.map(tick => h("line", {
            class: tick === 0 ? "axis" : "grid", key: `grid ${tick}`, x1: box.left, x2: box.right, y1: y(tick), y2: y(tick),
        })),
        ticks.map(tick => h("text", {class: "tick end", key: `tick ${tick}`, x: box.left - 6, y: y(tick) + 4}, tickText(tick))),
        minutes.map(minute => h("text", {
            class: `tick ${minute === 0 ? "end" : "middle"}`, key: `minute ${minute}`,
            x: minute === 0 ? box.right + 6 : x(minute), y: box.bottom + 16,
        }, minute === 0 ? "now" : String(minute))),
        h("text", {class: "axis-title middle", x: middle, y: box.bottom + 33}, "minutes ago"),
        h("text", {
            class: "axis-title middle", transform: `rotate(-90) translate(${-(box.top + box.bottom) / 2} 10)`,
        }, unit),
    ];
}
