"""A real browser, web pages of another server, nodes as processes, and nginx. See `just test-browser`."""

import contextlib
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import httpx
import pytest

from llmactors.testing.node import NodeProcess
from tests.support.waiting import soon

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

PACKAGES = {
    "chromium": "chromium",
    "chromedriver": "chromium-driver",
    "nginx": "nginx",
    "caddy": "caddy",
    "openssl": "openssl",
}
SCRIPTS = (Path(__file__).parent / "page.js").read_text(encoding="utf-8")


def program(name: str) -> str:
    """The path of a program. The test fails if the program is not installed."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin")
    if found is None:
        pytest.fail(f"{name} is not installed: apt-get install -y {' '.join(dict.fromkeys(PACKAGES.values()))}")
    return found


@attrs.frozen
class Browser:
    """Chromium. Every host name that ends in `.example` is 127.0.0.1 to this browser."""

    driver: "Chrome"

    def open(self, url: str) -> None:
        """Opens a page."""
        self.driver.get(url)

    def run(self, call: str, *arguments: Any) -> Any:
        """Calls an asynchronous function of `page.js` in the open page, and returns what the function returns."""
        script = f"""
            const done = arguments[arguments.length - 1];
            {SCRIPTS}
            {call}(...Array.from(arguments).slice(0, -1)).then(
                value => done({{value}}), error => done({{value: `${{error.name}}: ${{error.message}}`}}));
        """
        return self.driver.execute_async_script(script, *arguments)["value"]


@contextlib.contextmanager
def chromium() -> "Iterator[Chrome]":
    """Chromium without a window, which keeps what the console of a page says."""
    from selenium.webdriver import Chrome, ChromeOptions
    from selenium.webdriver.chrome.service import Service

    options = ChromeOptions()
    options.binary_location = program("chromium")
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-dev-shm-usage",
        "--no-proxy-server",
        "--hide-scrollbars",
        "--ignore-certificate-errors",
        "--host-resolver-rules=MAP *.example 127.0.0.1",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = Chrome(options=options, service=Service(program("chromedriver")))
    driver.set_script_timeout(30)
    try:
        yield driver
    finally:
        driver.quit()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with chromium() as driver:
        yield Browser(driver)


class _Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        data = b"<!doctype html><title>page</title>"
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture(scope="session")
def page_port() -> Iterator[int]:
    """The port of a web server with an empty page."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Page) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.fixture
def evil(page_port: int) -> str:
    """The origin of a page that nobody has allowed."""
    return f"http://evil.example:{page_port}"


@pytest.fixture
def app(page_port: int) -> str:
    """The origin of a page that tests allow."""
    return f"http://app.example:{page_port}"


@attrs.frozen
class ServedNode:
    """A node in a process of its own."""

    url: str

    @property
    def address(self) -> str:
        return self.url.removeprefix("http://")

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def requests_admitted(self) -> int:
        """The number of requests that have reached the ledger in the last minute."""
        metrics = httpx.get(f"{self.url}/metrics").text
        known = [each for each in metrics.splitlines() if each.startswith("llmactors_ledger_requests{")]
        assert known
        return sum(int(float(each.split()[1])) for each in known)


@pytest.fixture
def serve() -> Iterator[Callable[..., ServedNode]]:
    """Starts a node with the given flags, and with an API key if one is given."""
    with contextlib.ExitStack() as stack:

        def start(*flags: str, api_key: str | None = None, model: str = "mock=mock:step_ms=20") -> ServedNode:
            environ = {} if api_key is None else {"GATEWAY_API_KEY": api_key}
            arguments = ("serve", "--model", model, "--bind", "127.0.0.1:0", *flags)
            return ServedNode(stack.enter_context(NodeProcess(*arguments, environ=environ)).wait_ready())

        yield start


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@pytest.fixture
def nginx(tmp_path: Path) -> Iterator[Callable[[Sequence[str]], None]]:
    """Starts nginx with the given `server` blocks."""
    processes: list[subprocess.Popen[bytes]] = []

    def start(servers: Sequence[str]) -> None:
        blocks = "\n".join(servers)
        paths = "".join(
            f"{kind}_temp_path {tmp_path}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        config = tmp_path / "nginx.conf"
        config.write_text(
            f"daemon off;\nuser root;\npid {tmp_path}/pid;\nerror_log {tmp_path}/error.log;\nevents {{}}\n"
            f"http {{\naccess_log off;\n{paths}{blocks}\n}}\n"
        )
        processes.append(subprocess.Popen([program("nginx"), "-c", str(config), "-e", f"{tmp_path}/error.log"]))
        deadline = time.monotonic() + 10
        while not (tmp_path / "pid").exists():
            assert time.monotonic() < deadline, (tmp_path / "error.log").read_text()
            assert processes[-1].poll() is None, (tmp_path / "error.log").read_text()
            time.sleep(0.02)

    yield start
    for process in processes:
        process.terminate()
        process.wait(10)


@pytest.fixture
def caddy(tmp_path: Path) -> Iterator[Callable[[str, int], None]]:
    """Starts Caddy with the text of a Caddyfile, and waits until Caddy listens on the port."""
    processes: list[subprocess.Popen[bytes]] = []

    def start(text: str, port: int) -> None:
        file = tmp_path / "Caddyfile"
        file.write_text(text, encoding="utf-8")
        command = [program("caddy"), "run", "--config", str(file), "--adapter", "caddyfile"]
        environ = {**os.environ, "XDG_DATA_HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)}
        with (tmp_path / "caddy.log").open("wb") as log:
            processes.append(subprocess.Popen(command, stdout=log, stderr=log, env=environ))

        def listens() -> bool:
            assert processes[-1].poll() is None, (tmp_path / "caddy.log").read_text()
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        soon(listens, what="that Caddy listens")

    yield start
    for process in processes:
        process.terminate()
        process.wait(10)


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate for llm.example and its key, in one file."""
    found = tmp_path / "llm.example.pem"
    subject = ["-subj", "/CN=llm.example", "-days", "1", "-nodes", "-newkey", "rsa:2048"]
    command = [program("openssl"), "req", "-x509", *subject, "-keyout", str(found), "-out", f"{found}.crt"]
    subprocess.run(command, check=True, capture_output=True)
    found.write_bytes(found.read_bytes() + Path(f"{found}.crt").read_bytes())
    return found
