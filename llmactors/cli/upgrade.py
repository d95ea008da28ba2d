"""`upgrade`: replace the gateways of keepers with gateways of the code that is installed now."""

import os
import signal
import time
from typing import Annotated

from cyclopts import Parameter

from llmactors.cli.keeping import RunningKeeper, running_keepers
from llmactors.errors import NotFound, OperatorError
from llmactors.keeper.status import status_of

_LOOK_EVERY_S = 0.05


def command(
    url: Annotated[
        str | None, Parameter(help="The address of a gateway, as in http://127.0.0.1:8000. By default, all gateways.")
    ] = None,
    /,
) -> int:
    """Replace the gateways of this machine, without cutting a connection or refusing one.

    Each keeper starts a gateway with the code that is installed now. When that gateway is ready, it takes over all
    connections from the old one. If it does not get ready in time, the old gateway goes on, and the exit code is 1.
    SIGUSR2 to a keeper does the same. The keeper itself is not replaced.
    """
    found = [keeper for keeper in running_keepers() if url is None or keeper.url == url.rstrip("/")]
    if not found:
        others = ", ".join(keeper.url for keeper in running_keepers()) or "none"
        raise NotFound(f"no keeper of this user serves {url or 'here'}; there are: {others}")
    outcomes = [_upgrade(keeper) for keeper in found]
    return 0 if all(outcome == "upgraded" for outcome in outcomes) else 1


def _upgrade(keeper: RunningKeeper) -> str:
    """Asks a keeper, waits for the outcome, and prints it."""
    try:
        os.kill(keeper.pid, signal.SIGUSR2)
    except OSError as error:
        raise OperatorError(f"cannot ask {keeper}: {error.strerror}") from error
    while (status := status_of(keeper.pid)) is not None and status.upgrades == keeper.status.upgrades:
        time.sleep(_LOOK_EVERY_S)
    outcome = "the keeper has ended" if status is None else status.outcome
    print(f"{keeper.url}: {outcome}" + (f", gateway {status.active}" if status and outcome == "upgraded" else ""))
    return outcome
