"""A page in Chromium that opens many streams: by fetch, as EventSource, and as WebSocket.

Chromium opens at most six connections to a host, so each six streams have a host name of their own. All names are this
machine to the browser. The page only gathers what it gets; this process compares.
"""

import time
from pathlib import Path
from typing import Any

from tests.chaos.keeper.loaders import Plan
from tests.chaos.keeper.records import Answer
from tests.chaos.keeper.shapes import Oracle
from tests.clients.conftest import chromium

SCRIPT = (Path(__file__).parent / "page.js").read_text(encoding="utf-8")
PAGE_HOST = "page.example"
PAGE_SETTINGS = {"allowed_hosts": "*", "allowed_origins": "*"}
"""The settings with which a gateway serves the page."""
OF_HOST = 5
"""The streams of one host: one connection is left for preflights."""
POLL_S = 0.5
SHAPES = {
    "Chromium fetch": [
        "native stream",
        "chat stream",
        "chat JSON",
        "messages stream",
        "responses stream",
        "large JSON",
    ],
    "Chromium EventSource": ["native stream"],
    "Chromium WebSocket": ["native stream"],
}


def run(plan: Plan) -> None:
    """Runs the clients of a plan until its end."""
    oracle = plan.oracle
    port = plan.address[1]
    to_monotonic = time.monotonic() - time.time()
    with chromium() as driver:
        driver.get(f"http://{PAGE_HOST}:{port}/livez")
        driver.execute_script(f"{SCRIPT}; window.keeper = {{results: [], ends: false, open: 0, begin}};")
        for place, (kind, number) in enumerate(plan.every_client()):
            shapes = [oracle.shapes[name] for name in SHAPES[kind]]
            asked = [[each.name, each.path, each.body("PROMPT").decode(), each.prompt("")] for each in shapes]
            host = f"h{place // OF_HOST}.example:{port}"
            driver.execute_script("window.keeper.begin(...arguments)", kind, number, host, asked)
        while True:
            found, is_open = driver.execute_script("return [window.keeper.results.splice(0), window.keeper.open]")
            for each in found:
                _judged(oracle, each, to_monotonic).tell()
            if not is_open and not found:
                return
            if plan.ends.is_set():
                driver.execute_script("window.keeper.ends = true")
            time.sleep(POLL_S)


def _judged(oracle: Oracle, found: dict[str, Any], to_monotonic: float) -> Answer:
    heard = [at / 1000 + to_monotonic for at in found["heard"]]
    answer = Answer(found["kind"], found["shape"], heard, found["fault"])
    if not answer.fault:
        answer.fault = oracle.fault_of_body(oracle.shapes[answer.shape], found["prompt"], found["body"])
    return answer
