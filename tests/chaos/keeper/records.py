"""What became of each answer. The processes of the clients tell it as a line of JSON for each."""

import json
import sys
from collections import Counter
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


@attrs.define
class Strike:
    """One kill or upgrade."""

    kind: str
    moment: float
    silences_s: list[float] = attrs.field(factory=list)
    """How long each client heard nothing around the moment, among those that heard something before and after."""
    takeover_cpu_ms: float | None = None
    """The CPU time for each client that the next gateway used in the first second, beyond that of the second one."""


@attrs.define
class Outcome:
    """What came of a run."""

    clients: int = 0
    counted: Counter[tuple[str, str, str]] = attrs.field(factory=Counter)
    """The answers by client, shape and kind of fault."""
    faults: list[Answer] = attrs.field(factory=list)
    """The answers that were not right."""
    strikes: list[Strike] = attrs.field(factory=list)
    notes: list[str] = attrs.field(factory=list)
    """What the keeper or a gateway logged of connections that were cut, and tracebacks."""

    def add(self, answer: Answer) -> None:
        """Counts an answer. All strikes that its client may have felt are known by then."""
        self.counted[answer.client, answer.shape, answer.kind] += 1
        if answer.fault:
            self.faults.append(answer)
        for strike in reversed(self.strikes):
            if not answer.heard or strike.moment < answer.heard[0]:
                return
            silence = answer.silence_at(strike.moment)
            if silence is not None:
                strike.silences_s.append(silence)

    @property
    def clients_seen(self) -> set[str]:
        """The kinds of clients that have had an answer."""
        return {client for client, _, _ in self.counted}


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
