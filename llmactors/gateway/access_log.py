"""The access log: one line for each request of a client, or only for those that end in an error.

A line says who asked for what, and what became of the request. A line has nothing of a prompt or an answer.
"""

import contextlib

import attrs
import trio

from llmactors.access.authentication import Caller
from llmactors.errors import LlmactorsError
from llmactors.ledger import Ledger
from llmactors.telemetry import get_logger
from llmactors.telemetry.bounded_log import BoundedLog, Level

_log = get_logger("llmactors.gateway")
_LOOK_S = 1.0
"""How long the ledger may take to say what became of a request, in seconds."""
_SERVER_ERROR = 500


@attrs.frozen(kw_only=True)
class AccessEntry:
    """One request of a client, at its end."""

    request_id: str
    client: str
    """The address of the client, without a port."""
    caller: Caller | None
    """None where the request ended before its key was checked."""
    method: str
    path: str
    route: str | None
    """The path in the table of routes; None where there is no such route."""
    model: str
    """The model of an accepted request; empty for any other request."""
    status: int
    code: str | None
    """The code of the error that ended the request; None where there was no error."""
    seconds: float
    ttft_s: float | None = None
    """How long after the request its first token was written; None for a whole answer, and without a token."""


class AccessLog:
    """Logs the requests of one gateway: all of them while `enabled`, else those that ended in an error.

    While the log is not enabled, at most 20 lines are written in ten seconds.

    Args:
        ledger: Knows how many tokens an accepted request has, and how often it was tried.
        enabled: The setting `access_log`.
    """

    def __init__(self, ledger: Ledger, *, enabled: bool = False) -> None:
        self.enabled = enabled
        self._ledger = ledger
        self._errors = BoundedLog("llmactors.gateway", lines=20)

    def __repr__(self) -> str:
        return f"<AccessLog of {'all requests' if self.enabled else 'errors'}>"

    def enable(self, enabled: bool) -> None:
        """Takes a new value of the setting `access_log`."""
        self.enabled = enabled

    def takes(self, code: str | None) -> bool:
        """Whether a request that ended with this code, or with None, is to be logged."""
        return self.enabled or code is not None

    async def note(self, entry: AccessEntry) -> None:
        """Logs a request that has ended. Waits up to a second for the ledger."""
        caller = entry.caller
        values = {
            "request_id": entry.request_id,
            "client": entry.client,
            "tenant": caller and caller.tenant,
            "key_id": caller and caller.credential and caller.credential.key_id,
            "method": entry.method,
            "path": entry.path,
            "route": entry.route,
            "model": entry.model or None,
            "status": entry.status or None,
            "code": entry.code,
            "seconds": round(entry.seconds, 4),
            "ttft_s": None if entry.ttft_s is None else round(entry.ttft_s, 4),
        }
        if entry.model:
            values |= await self._fate(entry.request_id)
        level: Level = "warning" if entry.code is not None and _is_our_fault(entry) else "info"
        if self.enabled:
            getattr(_log, level)("request", **values)
        else:
            self._errors.write(level, "request", **values)

    async def _fate(self, request_id: str) -> dict[str, int | None]:
        """What the ledger knows of an accepted request; nothing where the ledger does not answer in time."""
        with contextlib.suppress(LlmactorsError), trio.move_on_after(_LOOK_S, shield=True):
            info = await self._ledger.info(request_id)
            end = (await self._ledger.read(request_id, info.last_seq)).end
            usage = None if end is None else end.usage
            return {
                "prompt_tokens": None if usage is None else usage.prompt_tokens,
                "cached_tokens": None if usage is None else usage.cached_tokens,
                "tokens": info.last_seq - (end is not None),
                "attempts": info.attempt,
                "takeovers": max(0, len(info.claims) - 1),
            }
        return {}


def log_change(entry: AccessEntry) -> None:
    """Logs a request by which an operator changed something, or was refused to, whether or not requests are logged."""
    caller = entry.caller
    _log.info(
        "an operator asked for a change",
        method=entry.method,
        path=entry.path,
        status=entry.status,
        code=entry.code,
        tenant=caller and caller.tenant,
        key_id=caller and caller.credential and caller.credential.key_id,
        client=entry.client,
        request_id=entry.request_id,
    )


def _is_our_fault(entry: AccessEntry) -> bool:
    """Whether the error is the node's: its status says so, or it ended a stream that had begun."""
    return entry.status >= _SERVER_ERROR or entry.status == 200
