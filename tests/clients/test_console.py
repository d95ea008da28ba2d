"""The console in Chromium: every view, the playground, drills, sign-in, a lost node, and hostile names."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from llmactors.testing.node import NodeProcess
from tests.clients.conftest import Browser, ServedNode, free_ports
from tests.clients.console_page import VIEWS, ConsolePage

pytestmark = [pytest.mark.clients, pytest.mark.timeout(120)]

Serve = Callable[..., ServedNode]
HOSTILE = "<img src=x onerror=broken=1><script>alert(1)</script>"
WITHOUT_NAMES = {"queue", "dead-letters", "tenants", "usage"}
"""The views that show no name while one request runs, and nothing waits."""
SECRET = "s3cret"


@pytest.fixture
def console(browser: Browser, serve: Serve) -> Iterator[ConsolePage]:
    """The console of a node with drills and the mock."""
    page = ConsolePage(browser, serve("--drills", model="mock=mock:step_ms=20").url)
    page.resize(1280)
    yield page
    page.resize(1280)


@pytest.fixture
def busy(console: ConsolePage) -> Iterator[ConsolePage]:
    """The console of a node on which a long request runs."""
    body = {"prompt": "p", "max_tokens": 3000, "stream": True}
    with httpx.stream("POST", f"{console.url}/v1/generate", json=body):
        yield console


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [360, 768, 1440])
def test_each_view_fits_and_nothing_complains(busy: ConsolePage, width: int, dark: bool) -> None:
    busy.resize(width, dark=dark)
    busy.complaints()
    for path, heading in VIEWS.items():
        busy.open(path)
        assert busy.run("return document.querySelector('h1').textContent") == heading
        assert busy.run("return document.title") == f"{heading} · llmactors"
        assert busy.run("return document.documentElement.scrollWidth") <= width, path
        assert busy.run("return document.querySelectorAll('main, nav, header').length") == 3
        assert not busy.complaints(), path
    ground = busy.run("return getComputedStyle(document.documentElement).backgroundColor")
    assert (ground == "rgb(14, 17, 22)") is dark


def test_views_show_what_the_node_does(busy: ConsolePage) -> None:
    busy.open("")
    busy.wait_text("All parts of this node work.")
    [node] = busy.rows("Nodes")
    assert (node["State"], node["Roles"]) == ("ready", "gateway, worker")
    assert "1 of" in node["Slots busy"]
    busy.go("models")
    [model] = busy.rows("Models")
    assert (model["Model"], model["State"], model["Waiting"]) == ("mock", "ready", "0")
    busy.go("requests")
    [request] = busy.rows("Requests")
    assert (request["State"], request["Model"], request["Attempts"]) == ("running", "mock", "1")
    busy.go("requests?state=queued")
    busy.wait_text("No request fits the filter")
    busy.go(f"requests/{request['Request']}")
    busy.wait_text("Made tokens for")
    [claim] = busy.rows("Claims")
    assert claim["What became of it"] == "The worker has the request."
    busy.go("tree")
    busy.wait_text("batcher:mock")
    busy.go("queue")
    busy.wait_text("Nothing waits")


def test_request_that_is_unknown_is_explained(console: ConsolePage) -> None:
    console.open("requests")
    console.fill("Open by id", "req_none")
    console.press("Open")
    console.wait_text("No request with this id is known.")


def test_request_that_is_no_longer_kept_has_its_record(browser: Browser, serve: Serve) -> None:
    """Its claims are gone, and the time in the queue and at workers is still known."""
    console = ConsolePage(browser, serve("--retention-s", "0").url)
    answer = httpx.post(f"{console.url}/v1/generate", json={"prompt": "p", "max_tokens": 4})
    console.open(f"requests/{answer.headers['x-request-id']}")
    console.wait_text("This is its record of usage.")
    console.wait_text("Was at workers for")


@pytest.mark.parametrize("api", ["chat", "native"])
def test_playground_goes_on_after_a_cut(console: ConsolePage, api: str) -> None:
    console.open("playground")
    console.fill("API", api)
    console.fill("Temperature", "0")
    console.fill("Longest answer", "120")
    console.fill("Your message", "Why is the sky blue?")
    console.press("Send")
    console.wait("return document.querySelector('.answered .text')?.textContent.length > 60")
    console.press("Cut my connection")
    console.wait_text("The connection was cut")
    console.wait_text("Ended (length)", within_s=20)
    shown = console.run("return document.querySelector('.answered .text').textContent")
    body = {"model": "mock", "max_tokens": 120, "temperature": 0}
    if api == "native":
        assert "Goes on with event" in console.text()
        whole = httpx.post(f"{console.url}/v1/generate", json={**body, "prompt": "Why is the sky blue?"}).json()["text"]
    else:
        assert "The repeated beginning is the same" in console.text()
        messages = [{"role": "user", "content": "Why is the sky blue?"}]
        answer = httpx.post(f"{console.url}/v1/chat/completions", json={**body, "messages": messages}).json()
        whole = answer["choices"][0]["message"]["content"]
    assert shown == whole
    assert not [each for each in console.complaints() if "Failed to load" not in each]


def test_playground_takes_tools_schemas_and_stops(console: ConsolePage) -> None:
    console.open("playground")
    console.fill("JSON schema of the answer", "{nonsense")
    console.wait_text("This is no JSON")
    assert console.run("return document.querySelector('#parameter-schema').getAttribute('aria-invalid')") == "true"
    schema = {"type": "object", "properties": {"colour": {"enum": ["blue"]}}, "required": ["colour"]}
    console.fill("JSON schema of the answer", json.dumps({**schema, "additionalProperties": False}))
    console.fill("Your message", "Which colour?")
    console.press("Send")
    console.wait_text("Ended (stop)")
    shown = console.run("return document.querySelector('.answered .text').textContent")
    assert json.loads(shown) == {"colour": "blue"}
    console.fill("JSON schema of the answer", "")
    console.fill("Longest answer", "2000")
    console.fill("Your message", "And now a long story.")
    console.press("Send")
    console.wait("return document.querySelectorAll('.answered .text')[1]?.textContent.length > 20")
    console.press("Stop")
    console.wait_text("Ended (cancelled)")


def test_snippets_are_the_request_that_is_sent(console: ConsolePage) -> None:
    console.open("playground")
    console.fill("Seed", "7")
    console.fill("Your message", 'It\'s "blue"?')
    console.run("document.querySelector('.snippets').open = true")
    # The page writes the code again a moment after each change.
    blocks = "[...document.querySelectorAll('.code-block pre')].map(each => each.textContent)"
    console.wait(f"return {blocks}.every(each => each.includes('It'))")
    command, program = console.run(f"return {blocks}")
    assert f"curl -N {console.url}/v1/chat/completions" in command
    body = json.loads(command.partition("-d '")[2][:-1].replace("'\\''", "'"))
    assert (body["seed"], body["messages"][0]["content"]) == (7, 'It\'s "blue"?')
    assert f'base_url="{console.url}/v1"' in program
    compile(program, "snippet", "exec")


@pytest.mark.model
def test_playground_streams_with_the_real_model(browser: Browser, serve: Serve) -> None:
    console = ConsolePage(browser, serve(model="smollm2-135m").url)
    console.open("playground")
    console.fill("Longest answer", "24")
    console.fill("Your message", "Say hello.")
    console.wait(
        "return [...document.querySelector('#parameter-model').options].some(each => !each.text.includes('('))",
        within_s=60,
    )
    console.press("Send")
    console.wait_text("Ended (", within_s=60)
    assert console.run("return document.querySelector('.answered .text').textContent").strip()


def test_stream_goes_on_through_all_drills(console: ConsolePage) -> None:
    console.open("drills")
    console.fill("Tokens", "500")
    console.press("Start a stream")
    console.wait_text("First token after")
    console.press("Kill the model's process")
    console.wait("return document.querySelectorAll('table[aria-label=Restarts] tbody tr').length > 0")
    console.press("Cut my connection")
    console.wait_text("The connection was cut behind event")
    console.wait_text("Goes on with event")
    console.fill("Actor", "node/serving/batcher:mock")
    console.press("Crash this actor")
    console.wait_text("Ended (length)", within_s=40)
    tiles = dict(
        console.run(
            "return [...document.querySelectorAll('.tile')].map(each => [each.querySelector('dt').textContent,"
            " each.querySelector('dd').textContent])"
        )
    )
    assert (tiles["Events"], tiles["Lost or twice"], tiles["Drills"]) == ("501", "0", "3")


def test_drills_are_not_there_unless_allowed(browser: Browser, serve: Serve) -> None:
    console = ConsolePage(browser, serve().url)
    console.open("drills")
    assert console.run("return document.querySelector('h1').textContent") == "Overview"
    assert "Drills" not in console.text()


def test_lost_node_is_said_and_found_again(browser: Browser) -> None:
    [port] = free_ports(1)
    arguments = ("serve", "--model", "mock=mock", "--bind", f"127.0.0.1:{port}")
    console = ConsolePage(browser, f"http://127.0.0.1:{port}")
    with NodeProcess(*arguments) as node:
        node.wait_ready()
        console.open("models")
        assert [each["Model"] for each in console.rows("Models")] == ["mock"]
        node.process.kill()
        console.wait_text("No answer from this node since")
        assert [each["Model"] for each in console.rows("Models")] == ["mock"]
        assert float(console.run("return getComputedStyle(document.querySelector('.view')).opacity")) < 1
    with NodeProcess(*arguments) as node:
        node.wait_ready()
        console.wait("return document.querySelector('.banner') === null")
        assert float(console.run("return getComputedStyle(document.querySelector('.view')).opacity")) == 1
    console.complaints()


def test_operator_signs_in_and_out(browser: Browser, serve: Serve) -> None:
    console = ConsolePage(browser, serve(api_key=SECRET).url)
    console.open("models")
    assert console.run("return document.querySelector('h1').textContent") == "Sign in"
    assert "mock" not in console.text()
    console.fill("Operator key", "wrong")
    console.press("Sign in")
    console.wait_text("The node does not know this key")
    console.fill("Operator key", SECRET)
    console.press("Sign in")
    console.wait("return document.querySelector('h1').textContent === 'Models'")
    assert console.run("return document.cookie") == ""
    console.resize(360)
    button = "[...document.querySelectorAll('header button')].find(each => each.innerText === 'Menu')"
    assert console.run(f"return {button}.getBoundingClientRect().right") <= 360
    console.resize(1280)
    console.open("playground")
    console.fill("Longest answer", "3")
    console.fill("Your message", "Hello")
    console.press("Send")
    console.wait_text("Ended (length)")
    console.press("Sign out")
    console.wait("return document.querySelector('h1').textContent === 'Sign in'")
    console.open("tree")
    assert console.run("return document.querySelector('h1').textContent") == "Sign in"


def test_key_of_a_tenant_opens_nothing(browser: Browser, serve: Serve, tmp_path: Path) -> None:
    keys = tmp_path / "keys.json"
    command = [sys.executable, "-m", "llmactors", "keys", "create", "--tenant", "acme", "--keys", str(keys)]
    key = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    console = ConsolePage(browser, serve("--keys", str(keys)).url)
    console.open("")
    console.fill("Operator key", key)
    console.press("Sign in")
    console.wait_text("This key belongs to a tenant.")
    assert console.run("return document.querySelector('h1').textContent") == "Sign in"


def test_hostile_names_are_only_text(busy: ConsolePage) -> None:
    names = ("mock", "anonymous", "node", "batcher:mock", "running")
    with busy.rewritten_answers({json.dumps(name): json.dumps(name + HOSTILE) for name in names}):
        busy.complaints()
        for path in VIEWS:
            busy.open(path)
            if path not in WITHOUT_NAMES:
                busy.wait_text(HOSTILE)
            made = "return document.querySelectorAll('#console img:not(.brand img), #console script').length"
            assert busy.run(made) == 0
            assert busy.run("return window.broken") is None
        assert not busy.complaints()


def test_keyboard_alone_reaches_everything(console: ConsolePage) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    def tab() -> str:
        ActionChains(console.browser.driver).send_keys(Keys.TAB).perform()
        return str(
            console.run("const at = document.activeElement; return at.getAttribute('aria-label') ?? at.innerText")
        )

    console.open("models")
    assert tab() == "Skip to the view"
    assert console.run("return getComputedStyle(document.activeElement).outlineStyle") == "solid"
    reached = [tab() for _ in range(16)]
    assert [each for each in VIEWS.values() if each in reached] == list(VIEWS.values())
    ActionChains(console.browser.driver).send_keys(Keys.ENTER).perform()
    console.open("dead-letters")
    assert tab() == "Skip to the view"
    ActionChains(console.browser.driver).send_keys(Keys.ENTER).perform()
    assert console.run("return document.activeElement.id") == "main"


def test_hidden_page_asks_nothing(console: ConsolePage) -> None:
    console.open("tree")
    console.run(
        "Object.defineProperty(document, 'hidden', {get: () => window.hides}); window.hides = true;"
        "document.dispatchEvent(new Event('visibilitychange'))"
    )
    console.run("performance.clearResourceTimings()")
    assert (
        console.browser.driver.execute_async_script(
            "const done = arguments[0]; setTimeout(() => done(performance.getEntriesByType('resource').length), 3000)"
        )
        <= 2
    )  # what was under way
    console.run("window.hides = false; document.dispatchEvent(new Event('visibilitychange'))")
    console.wait("return performance.getEntriesByType('resource').length > 3")


def test_charts_are_read_with_the_keyboard(console: ConsolePage) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    console.open("")
    console.wait("return document.querySelector('.chart svg .line') !== null", within_s=30)
    console.run("document.querySelector('.chart svg').focus()")
    ActionChains(console.browser.driver).send_keys(Keys.ARROW_LEFT).perform()
    console.wait("return document.querySelector('.chart .mark-time')?.textContent")
    told = console.run("return document.querySelector('.chart svg').getAttribute('aria-label')")
    assert told.startswith("Tokens made, tokens per second, the last 4 minutes.")


def test_colours_are_switched_and_remembered(console: ConsolePage) -> None:
    console.open("")
    ground = "return getComputedStyle(document.documentElement).backgroundColor"
    light = console.run(ground)
    console.press("Colours: system")
    console.press("Colours: light")
    dark = console.run(ground)
    assert light != dark
    console.open("models")
    assert console.run(ground) == dark
    console.press("Colours: dark")
    assert console.run(ground) == light
