"""A page in Chromium whose WebSocket outlives the gateway: the page has no code that connects again."""

import os
import signal
import threading

import pytest

from tests.clients.conftest import Browser
from tests.support.kept_gateway import TOKENS, gateway_below_keeper, keeper_at, text_of, wait_takeover

pytestmark = [pytest.mark.clients, pytest.mark.timeout(180)]


@pytest.mark.parametrize("how", ["kill", "upgrade"])
def test_page_hears_each_message_once(browser: Browser, how: str) -> None:
    with gateway_below_keeper() as url:
        keeper = keeper_at(url)
        browser.open(f"{url}/v1/models")
        target, number = (keeper.status.active, signal.SIGKILL) if how == "kill" else (keeper.pid, signal.SIGUSR2)
        prompts = [f"page {number}" for number in range(10)]
        death = threading.Timer(1.0, os.kill, (target, number))
        death.start()
        found = browser.run("sockets", f"{url.replace('http', 'ws')}/v1/ws", prompts, TOKENS)
        death.join()
        wait_takeover(keeper)
        assert found == {each: {"seqs": [*range(1, TOKENS + 2)], "text": text_of(each)} for each in prompts}
