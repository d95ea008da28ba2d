// The geometry of charts.

// Round numbers from 0 to at least `most`, about four of them.
export function niceTicks(most) {
    if (!(most > 0)) return [0, 1];
    const rough = most / 3;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = power * [1, 2, 2.5, 5, 10].find(each => each * power >= rough);
    const ticks = [0];
    while (ticks.at(-1) < most) ticks.push(Number(((ticks.length) * step).toPrecision(12)));
    return ticks;
}

// The path of a line with a gap wherever a value is null. A value between two gaps becomes a short stroke.
export function paths(values, x, y) {
    let path = "", open = false;
    values.forEach((value, at) => {
        if (value === null || value === undefined) {
            open = false;
            return;
        }
        const [px, py] = [x(at).toFixed(1), y(value).toFixed(1)];
        path += open ? `L${px} ${py}` : `M${px} ${py}h0.1`;
        open = true;
    });
    return path;
}

// The columns of several series on top of each other: for each series [{at, from, to}].
export function columns(series, length) {
    const heights = new Array(length).fill(0);
    return series.map(values => values.flatMap((value, at) => {
        if (!value) return [];
        const from = heights[at];
        heights[at] += value;
        return [{at, from, to: heights[at]}];
    }));
}
