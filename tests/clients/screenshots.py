"""Makes the screenshots of the console: each view in light and dark, of a node that serves three tenants for a while.

    python -m tests.clients.screenshots FOLDER [MINUTES]

The node serves the real model and two mocks, has keys, limits and drills, and is under load all the time. `just
screenshots` runs the program.
"""

import contextlib
import io
import itertools
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import attrs
import httpx
from PIL import Image

from llmactors.testing.node import NodeProcess
from tests.clients.conftest import Browser, chromium
from tests.clients.console_page import ConsolePage

WIDTH, HEIGHT = 1280, 860
TALL = {"overview": 1330, "drills": 1060, "tree": 1120, "tenants": 1000}
"""The heights of the views that are worth more than one screen."""
COLOURS = 128
"""The colours of a picture: enough for flat pages, and a third of the bytes."""
MODELS = ("smollm2-135m", "chat=mock:step_ms=40,slots=6", "code=mock:step_ms=25,slots=4,crash_at=3,crash_prompt=poison")
QUESTION = "Explain in a few sentences why the sky is blue."


@attrs.frozen
class Load:
    """What one tenant sends, again and again, until `ended` is set."""

    url: str
    key: str
    models: tuple[str, ...]
    pause_s: float
    ended: threading.Event

    def run(self, seed: int) -> None:
        """Sends one request after the other, with a pause that grows and shrinks over some minutes."""
        rng = random.Random(seed)
        headers = {"authorization": f"Bearer {self.key}"}
        with httpx.Client(base_url=self.url, headers=headers, timeout=120, trust_env=False) as client:
            while not self.ended.is_set():
                swing = 1.0 + 0.8 * abs((time.monotonic() / 100) % 2 - 1)
                body = {
                    "model": rng.choice(self.models),
                    "prompt": f"Question {rng.random()}",
                    "max_tokens": rng.randint(20, 240),
                    "priority": rng.choice((0, 1, 1, 1)),
                    "stream": True,
                }
                with contextlib.suppress(httpx.HTTPError), client.stream("POST", "/v1/generate", json=body) as answer:
                    answer.read()
                self.ended.wait(self.pause_s * swing * rng.expovariate(1.0))


def create_key(keys: Path, *arguments: str) -> str:
    """Makes a key in the file `keys`."""
    command = [sys.executable, "-m", "llmactors", "keys", "create", "--keys", str(keys), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@contextlib.contextmanager
def loaded(url: str, keys: dict[str, str]) -> Iterator[None]:
    """Load of three tenants, in the block."""
    ended = threading.Event()
    plan = (("acme", ("chat",), 0.6, 5), ("research", ("code", "chat"), 0.8, 4), ("support", ("code",), 1.5, 2))
    loads = [
        threading.Thread(target=Load(url, keys[tenant], models, pause_s, ended).run, args=(index * 100 + number,))
        for index, (tenant, models, pause_s, clients) in enumerate(plan)
        for number in range(clients)
    ]
    for each in loads:
        each.start()
    try:
        yield
    finally:
        ended.set()
        for each in loads:
            each.join()


def poison(url: str, key: str) -> None:
    """Sends two requests that crash each backend that takes them, so that they become dead letters."""
    for number in range(2):
        body = {"model": "code", "prompt": f"poison {number}", "max_tokens": 20}
        httpx.post(f"{url}/v1/generate", json=body, headers={"x-api-key": key}, timeout=120)


def shoot(page: ConsolePage, folder: Path, name: str) -> None:
    """Writes the open view in both colours, as small pictures."""
    for dark in (False, True):
        page.resize(WIDTH, TALL.get(name, HEIGHT), dark=dark)
        time.sleep(0.7)
        picture = Image.open(io.BytesIO(page.browser.driver.get_screenshot_as_png())).convert("RGB")
        quantized = picture.quantize(COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
        quantized.save(folder / f"{name}-{'dark' if dark else 'light'}.png", optimize=True)


def play(page: ConsolePage) -> None:
    """Has a conversation with the real model, with a cut in the middle of the answer."""
    page.go("playground")
    page.fill("Model", "smollm2-135m")
    page.fill("API", "native")
    page.fill("Longest answer", "120")
    page.fill("Temperature", "0")
    page.fill("Your message", QUESTION)
    page.press("Send")
    page.wait("return document.querySelector('.answered .text')?.textContent.length > 100", within_s=90)
    page.press("Cut my connection")
    page.wait_text("Ended (", within_s=90)


def drill(page: ConsolePage) -> None:
    """Kills the model and cuts the connection under a stream."""
    page.go("drills")
    page.fill("Model", "smollm2-135m")
    page.fill("Tokens", "500")
    page.press("Start a stream")
    page.wait_text("First token after")
    time.sleep(2)
    page.press("Kill the model's process")
    time.sleep(4)
    page.press("Cut my connection")
    page.wait_text("Goes on with event")
    time.sleep(2)


def main(folder: Path, minutes: float) -> None:
    """Runs the node for so many minutes, and then writes all pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        keys_file = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "keys.json"
        operator = create_key(keys_file, "--operator", "--name", "console")
        keys = {
            "acme": create_key(keys_file, "--tenant", "acme", "--tokens-per-day", "5000000", "--weight", "2"),
            "research": create_key(keys_file, "--tenant", "research", "--concurrent", "8"),
            "support": create_key(keys_file, "--tenant", "support", "--requests-per-minute", "12", "--expires", "90d"),
        }
        models = itertools.chain.from_iterable(("--model", each) for each in MODELS)
        arguments = ("serve", *models, "--bind", "127.0.0.1:0", "--keys", str(keys_file), "--drills")
        url = stack.enter_context(NodeProcess(*arguments)).wait_ready()
        page = ConsolePage(Browser(stack.enter_context(chromium())), url)
        stack.enter_context(loaded(url, keys))
        page.open("")
        shoot(page, folder, "sign-in")
        page.fill("Operator key", operator)
        page.press("Sign in")
        time.sleep(minutes * 60)
        poison(url, keys["research"])
        time.sleep(30)
        for path in ("", "models", "requests", "queue", "dead-letters", "tree", "tenants", "usage"):
            page.go(path)
            time.sleep(1)
            shoot(page, folder, path or "overview")
        page.go("requests?state=running")
        page.wait("return document.querySelectorAll('td .id').length > 0", within_s=60)
        rows = page.rows("Requests")
        page.go(f"requests/{rows[len(rows) // 2]['Request']}")  # one with some tokens that goes on for a while
        page.wait_text("Made tokens for", within_s=60)
        shoot(page, folder, "request")
        play(page)
        shoot(page, folder, "playground")
        drill(page)
        shoot(page, folder, "drills")


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 6.0)
