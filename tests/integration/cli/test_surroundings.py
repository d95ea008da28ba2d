"""The user, the home, the variables, the signals and the kernel around a process change nothing but what they say."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import trio

from llmactors.backends.models.hub_download import _proxies
from llmactors.cli.client import _settings, no_answer
from llmactors.cluster import child
from llmactors.errors import ConfigError, Unavailable
from llmactors.testing.node import NodeProcess
from tests.support.waiting import soon

pytestmark = pytest.mark.integration

BARE = {"PATH": os.environ.get("PATH", "/usr/bin:/bin")}
IS_ROOT = os.geteuid() == 0
# A capability lets the user of this number read the interpreter, wherever that is.
STRANGER = (
    "setpriv --reuid=54321 --regid=54321 --clear-groups --inh-caps=+dac_read_search --ambient-caps=+dac_read_search"
)
# Root without the capabilities that let it read and write what it may not.
WITHOUT_RIGHTS = "setpriv --inh-caps=-all --bounding-set=-dac_override,-dac_read_search"
HUB_MODEL = "hf:owner/repo/model.gguf"


def llmactors(prefix: str, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*(prefix.split() if IS_ROOT else ()), sys.executable, "-m", "llmactors", *arguments],
        env={**BARE, **environ},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


# The user.


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("pull", HUB_MODEL), "llmactors: this user has no home directory: set HOME, or LLMACTORS_CACHE"),
        (("up", "--model", "mock"), "llmactors: this user has no home directory: set HOME, or choose a place"),
    ],
)
def test_user_without_name_and_home_is_told_what_to_set(arguments: tuple[str, ...], says: str) -> None:
    result = llmactors(STRANGER if IS_ROOT else "", *arguments, **({} if IS_ROOT else {"HOME": "~"}))
    assert (result.returncode, result.stderr.count("\n")) == (1, 1), result.stderr
    assert result.stderr.startswith(says)


def test_node_serves_for_a_user_without_name_and_home() -> None:
    prefix = STRANGER.split() if IS_ROOT else ()
    command = ("env", "-i", f"PATH={BARE['PATH']}")
    with NodeProcess("serve", "--model", "mock", "--bind", "127.0.0.1:0", prefix=(*prefix, *command)) as node:
        node.wait_ready()
        assert node.stop() == 0
        assert node.tracebacks() == []


def test_home_that_does_not_exist_is_no_fault_of_the_program(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = llmactors("", "pull", HUB_MODEL, HOME=str(tmp_path / "file" / "home"))
    assert (result.returncode, result.stderr.count("\n")) == (1, 1), result.stderr
    assert "the model cannot be stored in" in result.stderr


@pytest.mark.parametrize("mode", [0o000, 0o555])
def test_cache_without_rights_names_its_path_and_the_variable(mode: int, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    cache.chmod(mode)
    result = llmactors(WITHOUT_RIGHTS, "pull", HUB_MODEL, HOME="/", LLMACTORS_CACHE=str(cache))
    assert (result.returncode, result.stderr.count("\n")) == (1, 1), result.stderr
    assert f"{cache}/models cannot be written: set LLMACTORS_CACHE" in result.stderr


def test_model_in_a_folder_without_rights_is_named(tmp_path: Path) -> None:
    model = tmp_path / "closed" / "model.gguf"
    model.parent.mkdir()
    model.write_bytes(b"GGUF")
    model.parent.chmod(0o000)
    result = llmactors(WITHOUT_RIGHTS, "serve", "--model", str(model), "--bind", "127.0.0.1:0", HOME="/")
    assert (result.returncode, result.stderr.count("\n")) == (1, 1), result.stderr
    assert f"the model file {model} cannot be read: Permission denied" in result.stderr


# Proxies and certificates.

ODD = {
    "brackets": {"NO_PROXY": "localhost,[::1]"},
    "gone": {"SSL_CERT_FILE": "/gone"},
    "proxy": {"HTTP_PROXY": "http://127.0.0.1:1", "HTTPS_PROXY": "http://127.0.0.1:1"},
    "socks": {"ALL_PROXY": "socks://127.0.0.1:1", "HTTP_PROXY": "socks5://127.0.0.1:1"},
    "nonsense": {"HTTP_PROXY": ":::bad"},
}


@pytest.fixture(params=ODD)
def odd(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name, value in ODD[request.param].items():
        monkeypatch.setenv(name, value)
    return str(request.param)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
def test_no_variable_changes_how_this_machine_is_asked(odd: str, host: str) -> None:
    settings = _settings(f"http://{host}:8000")
    assert (settings.proxy, settings.ca_file) == ("", "")


def test_proxy_of_a_remote_node_is_used_or_named(odd: str) -> None:
    url = "https://node.example:8000" if odd == "gone" else "http://node.example:8000"
    if odd in {"brackets", "proxy"}:
        assert _settings(url).proxy == ("http://127.0.0.1:1" if odd == "proxy" else "")
        through = "at http://node.example:8000 through the proxy 127.0.0.1: " if odd == "proxy" else ":8000: "
        assert through in no_answer(url, Unavailable("refused")).message
        return
    with pytest.raises(ConfigError, match="^SSL_CERT_FILE: the file /gone" if odd == "gone" else "^HTTP_PROXY: "):
        _settings(url)


def test_proxy_without_a_scheme_is_an_http_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "proxy.example:3128")
    assert _settings("http://node.example").proxy == "http://proxy.example:3128"


@pytest.mark.parametrize("name", ODD)
def test_download_names_the_variables_that_cannot_be_used(name: str, tmp_path: Path) -> None:
    places = {"HOME": "/", "LLMACTORS_CACHE": str(tmp_path), "HF_ENDPOINT": "http://127.0.0.1:9"}
    result = llmactors("", "pull", HUB_MODEL, **places, **ODD[name])
    assert (result.returncode, result.stderr.count("\n")) == (1, 1), result.stderr
    usable = name in {"brackets", "proxy"}
    says = "cannot be downloaded from" if usable else "the environment names a proxy or certificates"
    assert says in result.stderr


def test_hosts_without_a_proxy_are_known_in_every_form() -> None:
    found = _proxies({"http": "proxy:1", "no": "localhost, [::1],10.0.0.1 ,.example.com,host.org"})
    direct = {pattern for pattern, transport in found.items() if transport is None}
    assert direct == {"all://localhost", "all://[::1]", "all://10.0.0.1", "all://*.example.com", "all://*host.org"}
    assert found["http://"] is not None
    assert _proxies({"http": "proxy:1", "no": "*"}) == {}


def test_node_and_its_upstream_ignore_the_variables() -> None:
    """The upstream is a node of this package too."""
    environ = {key: value for each in ("brackets", "gone", "proxy") for key, value in ODD[each].items()}
    with NodeProcess("serve", "--model", "mock", "--bind", "127.0.0.1:0") as upstream:
        model = f"far=openai:{upstream.wait_ready()}/v1,model=mock"
        with NodeProcess("serve", "--model", model, "--bind", "127.0.0.1:0", environ=environ) as node:
            url = node.wait_ready()
            result = llmactors("", "generate", "hi", "--url", url, "--max-tokens", "3", HOME="/", **environ)
            assert (result.returncode, result.stderr) == (0, ""), node.errors()
            assert result.stdout.strip()


# The kernel and signals.


@pytest.mark.parametrize("refuse", [OSError(38, "Function not implemented"), PermissionError(1, "not permitted")])
def test_end_of_a_child_is_seen_without_pidfd(refuse: OSError, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(pid: int) -> int:
        raise refuse

    monkeypatch.setattr(os, "pidfd_open", refused)
    process = subprocess.Popen(["sh", "-c", "exit 3"])
    trio.run(child._wait_exit, process)
    assert process.returncode == 3


HANDS_DOWN = """
import os, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
os.execvp(sys.argv[1], sys.argv[1:])
"""
"""Starts a program as a parent does that has blocked all signals, and that does not care how its children end."""


def test_signals_that_a_parent_blocked_are_heard() -> None:
    prefix = (sys.executable, "-c", HANDS_DOWN)
    with NodeProcess("serve", "--model", "mock", "--bind", "127.0.0.1:0", prefix=prefix) as node:
        node.wait_ready()
        assert node.stop() == 0


def test_end_of_a_child_is_known_though_a_parent_ignored_it() -> None:
    code = "import subprocess, sys; from llmactors.cli.running import take_back_signals; take_back_signals()"
    code += "; sys.exit(subprocess.run(['sh', '-c', 'exit 3']).returncode)"
    command = [sys.executable, "-c", HANDS_DOWN, sys.executable, "-c", code]
    assert subprocess.run(command, check=False).returncode == 3


@pytest.fixture
def _hangups_are_heard() -> Iterator[None]:
    """Under `nohup`, a process and all that it starts ignore SIGHUP."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


_TERMINAL = (
    "import fcntl, os, pty, sys, termios; os.setsid(); ours, theirs = pty.openpty(); os.set_inheritable(ours, True); "
    "fcntl.ioctl(theirs, termios.TIOCSCTTY, 0); os.execvp(sys.argv[1], sys.argv[1:])"
)
_WITH_A_TERMINAL = (sys.executable, "-c", _TERMINAL)
"""Starts a command in a session of its own, with a terminal that nobody reads."""
_WITHOUT_A_TERMINAL = (sys.executable, "-c", "import os, sys; os.setsid(); os.execvp(sys.argv[1], sys.argv[1:])")


@pytest.mark.usefixtures("_hangups_are_heard")
def test_hangup_drains_the_node() -> None:
    node_of = ("serve", "--model", "mock:step_ms=20", "--bind", "127.0.0.1:0")
    with NodeProcess(*node_of, prefix=_WITH_A_TERMINAL) as node:
        url = node.wait_ready()
        body = {"prompt": "hi", "max_tokens": 30, "stream": True}
        with httpx.stream("POST", f"{url}/v1/generate", json=body, trust_env=False) as answer:
            lines = answer.iter_lines()
            next(lines)
            node.process.send_signal(signal.SIGHUP)
            events = [line for line in lines if line.startswith("event: ")]
        assert events[-1] == "event: done"
        assert node.process.wait(20) == 0
        assert '"signal": "SIGHUP"' in node.errors()


def test_hangup_that_nohup_ignores_ends_nothing() -> None:
    with NodeProcess("serve", "--model", "mock", "--bind", "127.0.0.1:0", prefix=("nohup",)) as node:
        url = node.wait_ready()
        node.process.send_signal(signal.SIGHUP)
        assert httpx.get(f"{url}/readyz", trust_env=False).status_code == 200
        assert node.stop() == 0
        assert "SIGHUP" not in node.errors()


@pytest.mark.usefixtures("_hangups_are_heard")
def test_hangup_without_a_terminal_reloads_the_settings(tmp_path: Path) -> None:
    """A wrong file changes nothing, and a good one changes what can change."""
    file = tmp_path / "llmactors.toml"
    file.write_text('rate_limit = "60/min"\n')
    node_of = ("serve", "--model", "mock", "--bind", "127.0.0.1:0", "--config", str(file))
    with NodeProcess(*node_of, prefix=_WITHOUT_A_TERMINAL) as node:
        url = node.wait_ready()
        file.write_text('rate_limit = "many"\n')
        node.process.send_signal(signal.SIGHUP)
        soon(lambda: "`rate_limit` must be COUNT/PERIOD" in node.errors())
        file.write_text('rate_limit = "1/h"\nallowed_origins = ["https://app.example"]\ndrain_s = 3\n')
        node.process.send_signal(signal.SIGHUP)
        soon(lambda: '"need_a_restart": ["drain_s"]' in node.errors())
        headers = {"origin": "https://app.example"}
        answers = [
            httpx.post(f"{url}/v1/generate", json={"prompt": "hi"}, headers=headers, trust_env=False) for _ in range(2)
        ]
        assert [answer.status_code for answer in answers] == [200, 429]
        assert answers[0].headers["access-control-allow-origin"] == "https://app.example"
        assert node.stop() == 0
