// The arrivals of a stream's tokens on a line of time, with a mark for each drill.

import {h} from "../dom.js";

const WIDTH = 1000, HEIGHT = 84, TOP = 22, BOTTOM = 58;
const SPAN_MS = 20000;

export function arrivalsChart(answer, drills) {
    const now = answer.endedAt ?? performance.now();
    const from = Math.max(answer.began, now - SPAN_MS);
    const x = at => (((at - from) / SPAN_MS) * WIDTH).toFixed(1);
    const seen = answer.arrivals.filter(at => at >= from);
    const longest = seen.slice(1).reduce((most, at, index) => Math.max(most, at - seen[index]), 0);
    const marks = drills.filter(each => each.at >= from && each.at <= now);
    const begin = (from - answer.began) / 1000;
    const percent = at => `${(((at - from) / SPAN_MS) * 100).toFixed(2)}%`;
    return h("svg", {
        class: "arrivals", width: "100%", height: HEIGHT, role: "img",
        "aria-label": `${seen.length} tokens in the last ${Math.round((now - from) / 1000)} seconds; the longest gap was ${Math.round(longest)} milliseconds`,
    },
        h("line", {class: "axis", x1: 0, x2: "100%", y1: BOTTOM, y2: BOTTOM}),
        h("svg", {x: 0, y: TOP, width: "100%", height: BOTTOM - TOP - 1, viewBox: `0 0 ${WIDTH} 1`, preserveAspectRatio: "none"},
            h("path", {class: "strokes", d: seen.map(at => `M${x(at)} 0V1`).join("")})),
        marks.map((each, index) => h("line", {
            key: `mark ${index}`, class: "drill-mark", x1: percent(each.at), x2: percent(each.at), y1: 4, y2: BOTTOM,
        })),
        marks.map((each, index) => h("text", {
            key: `word ${index}`, class: "drill-word", y: 14, x: percent(each.at),
            dx: x(each.at) > WIDTH / 2 ? -6 : 6, "text-anchor": x(each.at) > WIDTH / 2 ? "end" : "start",
        }, each.words)),
        [0, 5, 10, 15, 20].map(each => h("text", {
            key: `second ${each}`, class: "tick", x: `${each * 5}%`, y: BOTTOM + 18,
            "text-anchor": each === 0 ? "start" : each === 20 ? "end" : "middle",
        }, `${(begin + each).toFixed(0)} s`)));
}
