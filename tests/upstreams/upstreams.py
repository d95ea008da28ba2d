"""The processes of two upstreams, which are killed and started again."""

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from typing import Self

import attrs
import trio

from llmactors.http.client import HttpClient
from llmactors.http.client_errors import HttpClientError


@attrs.define(eq=False)
class UpstreamProcess:
    """One upstream on a port of its own."""

    command: Sequence[str]
    """The command. `PORT` stands for the port."""
    port: int = attrs.field(init=False)
    _process: subprocess.Popen[bytes] | None = attrs.field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]

    @property
    def url(self) -> str:
        """The URL of the upstream's OpenAI API."""
        return f"http://127.0.0.1:{self.port}/v1"

    async def start(self) -> None:
        """Returns once the upstream answers."""
        command = [each.replace("PORT", str(self.port)) for each in self.command]
        environ = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
        nothing = subprocess.DEVNULL
        self._process = subprocess.Popen(command, stdout=nothing, stderr=nothing, env=environ)  # noqa: ASYNC220 - forks
        client = HttpClient(f"http://127.0.0.1:{self.port}")
        with trio.fail_after(60):
            while True:
                try:
                    response = await client.fetch("GET", "/health", b"")
                    if response.status in {200, 404}:
                        break
                except HttpClientError:
                    pass
                await trio.sleep(0.02)
        client.close()

    def kill(self) -> None:
        """Kills the process with SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None

    @classmethod
    def of(cls, module: str, *arguments: str) -> Self:
        """The upstream that `python -m MODULE` serves."""
        return cls((sys.executable, "-m", module, *arguments))
