"""The console in a real browser, as a person uses it: by the words on the page."""

import contextlib
import json
import time
from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from tests.clients.conftest import Browser

WITHIN_S = 15.0
VIEWS = {
    "": "Overview",
    "models": "Models",
    "requests": "Requests",
    "queue": "Queue",
    "dead-letters": "Dead letters",
    "tree": "Tree",
    "tenants": "Tenants",
    "usage": "Usage",
    "playground": "Playground",
}
"""The views of every gateway by their paths, with their headings."""
_READY = """
    const main = document.getElementById("main");
    return main !== null && !main.querySelector(".loading") && main.querySelector("h1")?.textContent;
"""
_GO = """
    const [hash, drawn] = arguments;
    location.hash = hash;
    // The page draws the view in the frame after the event that says that the address has changed.
    setTimeout(() => requestAnimationFrame(() => requestAnimationFrame(drawn)), 50);
"""


@attrs.frozen
class ConsolePage:
    """The console of the node at `url`."""

    browser: Browser
    url: str

    def open(self, path: str = "") -> None:
        """Loads the console anew, and waits until the view has its data."""
        self.browser.open("about:blank")
        self.browser.open(f"{self.url}/#/{path}")
        self.wait(_READY)

    def go(self, path: str) -> None:
        """Goes to a view of the open console, as a link does."""
        self.browser.driver.execute_async_script(_GO, f"#/{path}")
        self.wait(_READY)

    def run(self, script: str, *arguments: Any) -> Any:
        """Runs a script in the page, and returns what the script returns."""
        return self.browser.driver.execute_script(script, *arguments)

    def wait(self, script: str, *arguments: Any, within_s: float = WITHIN_S) -> Any:
        """Runs a script again and again until it returns something true. Fails with the text of the page."""
        deadline = time.monotonic() + within_s
        while not (found := self.run(script, *arguments)):
            assert time.monotonic() < deadline, f"{script}\n{self.text()}\n{self.complaints()}"
            time.sleep(0.05)
        return found

    def text(self) -> str:
        """All that a person can read on the page."""
        return str(self.run("return document.body.innerText"))

    def wait_text(self, text: str, *, within_s: float = WITHIN_S) -> None:
        """Waits until the page has this text."""
        self.wait("return document.body.innerText.includes(arguments[0])", text, within_s=within_s)

    def press(self, name: str) -> None:
        """Presses the button with this name, once the button can be pressed."""
        script = """
            const found = [...document.querySelectorAll("dialog button, button")].find(each => !each.disabled
                && (each.getAttribute("aria-label") ?? each.innerText) === arguments[0]);
            found?.click();
            return found !== undefined;
        """
        self.wait(script, name)

    def fill(self, label: str, value: str) -> None:
        """Fills in the control with this label, as a person does."""
        script = """
            const label = [...document.querySelectorAll("label")].find(each => each.textContent === arguments[0]);
            const control = label && document.getElementById(label.htmlFor);
            const choices = control?.localName === "select" ? [...control.options].map(each => each.value) : null;
            if (!control || (choices !== null && !choices.includes(arguments[1]))) return false;
            control.focus();
            control.value = arguments[1];
            control.dispatchEvent(new Event("input", {bubbles: true}));
            control.dispatchEvent(new Event("change", {bubbles: true}));
            return true;
        """
        self.wait(script, label, value)

    def rows(self, label: str) -> list[dict[str, str]]:
        """The rows of the table with this label: the text of each cell by the title of its column."""
        script = """
            const table = document.querySelector(`table[aria-label="${arguments[0]}"]`);
            return table && [...table.tBodies[0].rows].map(row => Object.fromEntries([...row.cells].map(cell =>
                [cell.dataset.title, cell.innerText.trim()])));
        """
        return self.run(script, label) or []

    def resize(self, width: int, height: int = 900, *, dark: bool = False) -> None:
        """Gives the page a size and the colours of the system."""
        driver = self.browser.driver
        driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False},
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})

    @contextlib.contextmanager
    def rewritten_answers(self, replaced: Mapping[str, str]) -> Iterator[None]:
        """Makes the browser replace texts in each JSON answer that the pages which are opened in the block read."""
        script = f"""{{
            const ask = window.fetch, replaced = {json.dumps(dict(replaced))};
            window.fetch = async (...given) => {{
                const answer = await ask(...given);
                if (!answer.headers.get("content-type")?.includes("json")) return answer;
                let text = await answer.text();
                for (const [before, after] of Object.entries(replaced)) text = text.replaceAll(before, after);
                return new Response(text, {{status: answer.status, headers: answer.headers}});
            }};
        }}"""
        command = self.browser.driver.execute_cdp_cmd
        added = command("Page.addScriptToEvaluateOnNewDocument", {"source": script})
        try:
            yield
        finally:
            command("Page.removeScriptToEvaluateOnNewDocument", added)

    def complaints(self) -> list[str]:
        """What the browser has complained of since the last call: errors of scripts, and of the security policy."""
        return [
            entry["message"]
            for entry in self.browser.driver.get_log("browser")  # type: ignore[no-untyped-call]
            if entry["level"] in {"SEVERE", "WARNING"}
        ]
