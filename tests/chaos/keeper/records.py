"""What became of each answer. The processes of the clients tell it as a line of JSON for each."""

import json
import sys
from collections.abc import Iterator

import attrs
import httpx

PATIENCE_S = 120.0
"""How long a client waits for the next byte. On a machine without idle cores, a takeover takes long."""


@attrs.define
class Answer:
    """One answer, as its client saw it."""

    client: str
    shape: str
    heard: list[float] = attrs.field(factory=list)
    """When something came, as readings of `time.monotonic`."""
    fault: str = ""
    """`cut`, `refused`, `silent`, `refusal`, `lost`, `repeated` or `wrong`, and what exactly; empty for none."""

    @property
    def kind(self) -> str:
        """The first word of the fault; empty for a right answer."""
        return self.fault.partition(":")[0]

    def tell(self) -> None:
        """Writes the answer to stdout."""
        self.heard = [round(at, 4) for at in self.heard]
        sys.stdout.write(json.dumps(attrs.asdict(self)) + "\n")
        sys.stdout.flush()

    def silence_at(self, moment: float) -> float | None:
        """The time in which the client heard nothing around a moment; None if it heard nothing before or after."""
        after = next((at for at in self.heard if at > moment), None)
        before = [at for at in self.heard if at <= moment]
        return None if after is None or not before else after - before[-1]


class Refusal(Exception):
    """The server answered with an error."""


def fault_of_error(error: BaseException) -> str:
    """The fault of an answer that ended with this exception."""
    chain = list(_causes(error))
    said = " < ".join(repr(each) for each in chain)[:500]
    if any(isinstance(each, Refusal) or hasattr(each, "status_code") for each in chain):
        return f"refusal: {said}"
    if any(isinstance(each, ConnectionRefusedError | httpx.ConnectError) for each in chain):
        return f"refused: {said}"
    if any("Timeout" in type(each).__name__ for each in chain):
        return f"silent: {said}"
    return f"cut: {said}"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
