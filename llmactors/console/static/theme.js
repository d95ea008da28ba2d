// The colours: those of the system, or those that the person has chosen with the switch.

const KEY = "llmactors.theme";
const CHOICES = ["system", "light", "dark"];

// The choice, which the browser keeps: "system", "light" or "dark".
export function theme() {
    let kept = null;
    try {
        kept = localStorage.getItem(KEY);
    } catch {
        // A browser that keeps nothing has the colours of the system.
    }
    return CHOICES.includes(kept) ? kept : "system";
}

// Takes the next choice.
export function switchTheme() {
    const next = CHOICES[(CHOICES.indexOf(theme()) + 1) % CHOICES.length];
    try {
        localStorage.setItem(KEY, next);
    } catch {
        return;
    }
    apply();
}

function apply() {
    const chosen = theme();
    if (chosen === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = chosen;
}

apply();
