// Numbers, durations and times as people read them.

const whole = new Intl.NumberFormat("en", {maximumFractionDigits: 0});
const oneDigit = new Intl.NumberFormat("en", {maximumFractionDigits: 1, minimumFractionDigits: 1});
const twoDigits = new Intl.NumberFormat("en", {maximumFractionDigits: 2, minimumFractionDigits: 2});
const clock = new Intl.DateTimeFormat("en-GB", {hour: "2-digit", minute: "2-digit", second: "2-digit"});
const utcDay = new Intl.DateTimeFormat("en-GB", {weekday: "short", day: "numeric", month: "short", timeZone: "UTC"});
const hour = new Intl.DateTimeFormat("en-GB", {day: "numeric", month: "short", hour: "2-digit", minute: "2-digit"});
const day = new Intl.DateTimeFormat("en-GB", {day: "numeric", month: "short"});

const significant = new Intl.NumberFormat("en", {maximumSignificantDigits: 3});

export const NOTHING = "–";

export const isNumber = value => typeof value === "number" && Number.isFinite(value);

// A count, with a comma for each thousand.
export function count(value) {
    return isNumber(value) ? whole.format(value) : NOTHING;
}

// A number with about three digits.
export function amount(value) {
    if (!isNumber(value)) return NOTHING;
    const size = Math.abs(value);
    if (size >= 100 || value === 0) return whole.format(value);
    return size >= 10 ? oneDigit.format(value) : twoDigits.format(value);
}

// The number beside a line of a chart.
export const tick = value => significant.format(value);

// A duration in seconds, such as "340 ms", "7.9 s", "3 min 20 s" or "2 d 4 h".
export function duration(seconds) {
    if (!isNumber(seconds)) return NOTHING;
    if (seconds < 0) return `−${duration(-seconds)}`;
    if (seconds === 0) return "0 s";
    if (seconds < 0.0005) return "< 1 ms";
    if (seconds < 0.9995) return `${whole.format(seconds * 1000)} ms`;
    if (seconds < 9.95) return `${oneDigit.format(seconds)} s`;
    const all = Math.round(seconds);
    if (all < 60) return `${all} s`;
    if (all < 3600) return parts(all, 60, "min", 1, "s");
    if (all < 86400) return parts(all, 3600, "h", 60, "min");
    return parts(all, 86400, "d", 3600, "h");
}

function parts(seconds, large, largeName, small, smallName) {
    const rest = Math.floor((seconds % large) / small);
    return `${Math.floor(seconds / large)} ${largeName}${rest ? ` ${rest} ${smallName}` : ""}`;
}

// A time of the day here, with the date where that is another day.
export function time(unixSeconds) {
    if (!isNumber(unixSeconds)) return NOTHING;
    const at = new Date(unixSeconds * 1000);
    const today = new Date().toDateString() === at.toDateString();
    return today ? clock.format(at) : `${day.format(at)}, ${clock.format(at)}`;
}

// The beginning of an hour or of a day. Days are those of UTC, as the node counts them.
export function moment(unixSeconds, unit) {
    if (!isNumber(unixSeconds)) return NOTHING;
    const at = new Date(unixSeconds * 1000);
    return unit === "day" ? `${utcDay.format(at)} (UTC)` : hour.format(at);
}

// How long ago a time was, in one unit.
export function ago(unixSeconds) {
    if (!isNumber(unixSeconds)) return NOTHING;
    const seconds = Math.max(0, Date.now() / 1000 - unixSeconds);
    if (seconds < 1) return "now";
    const [size, name] = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]].find(([each]) => seconds >= each);
    return `${Math.floor(seconds / size)} ${name} ago`;
}

export function plural(number, one, many = `${one}s`) {
    return `${count(number)} ${number === 1 ? one : many}`;
}
