"""The gateways of a storm: below keepers, which faults leave alone."""

import contextlib
import os
import random
import signal
import sys
from collections.abc import Iterator

from llmactors.keeper.status import KeeperStatus, status_of
from llmactors.testing.failover import FailoverCluster
from llmactors.testing.managed_process import poll_until
from llmactors.testing.nemeses import Nemesis
from tests.chaos.forking import ForkedProcess, ForkingCluster
from tests.chaos.sabotage import accept_sabotage

SERVES_AGAIN_S = 30.0


class GatewayBelowKeeper(ForkedProcess):
    """A worker, or a keeper with its gateways. Signals go to the gateway that serves."""

    @property
    def status(self) -> KeeperStatus | None:
        """What the keeper says; None for a worker, and for a keeper that has not begun."""
        return status_of(self.pid) if self.role == "gateway" and self.alive else None

    def signal(self, number: int) -> bool:
        if self.role != "gateway":
            return super().signal(number)
        return _sent(self._serving, number)

    def tell_keeper(self, number: int) -> bool:
        """Sends the keeper itself a signal."""
        return super().signal(number)

    def kill(self) -> bool:
        # The keeper goes on, and what its first gateway said of itself holds for all.
        return super().kill() if self.role != "gateway" else self.signal(signal.SIGKILL)

    @contextlib.contextmanager
    def stopped(self) -> Iterator[bool]:
        if self.role != "gateway":
            with super().stopped() as was_there:
                yield was_there
            return
        pid = self._serving
        if not _sent(pid, signal.SIGSTOP):
            yield False
            return
        self.frozen += 1
        try:
            yield True
        finally:
            self.frozen -= 1
            _sent(pid, signal.SIGCONT)

    @property
    def _serving(self) -> int:
        status = self.status
        return status.active if status is not None else 0


def _sent(pid: int, number: int) -> bool:
    try:
        if pid:
            os.kill(pid, number)
    except ProcessLookupError:
        return False
    return bool(pid)


class KeeperCluster(ForkingCluster):
    """A cluster whose gateways are below keepers."""

    member_type = GatewayBelowKeeper


class KeeperFailoverCluster(FailoverCluster):
    """The same over a server with a replica and Sentinels."""

    member_type = GatewayBelowKeeper


def _keepers(nemesis: Nemesis) -> list[GatewayBelowKeeper]:
    return [each for each in nemesis.cluster.gateways if isinstance(each, GatewayBelowKeeper)]


class UpgradeGateway(Nemesis):
    """Has a keeper start another gateway, which takes over from the one that serves."""

    name = "gateways upgraded"

    async def strike(self, rng: random.Random) -> None:
        if rng.choice(_keepers(self)).tell_keeper(signal.SIGUSR2):
            self.struck()


class KillStandby(Nemesis):
    """Kills the gateway that waits."""

    name = "standbys killed"

    async def strike(self, rng: random.Random) -> None:
        status = rng.choice(_keepers(self)).status
        if status is not None and _sent(status.standby, signal.SIGKILL):
            self.struck()


class KillTwice(Nemesis):
    """Kills a gateway, and the next one as soon as it serves."""

    name = "gateways killed twice"

    async def strike(self, rng: random.Random) -> None:
        member = rng.choice(_keepers(self))
        for _ in range(2):
            before = member.status
            if before is not None and member.kill():
                self.struck()
                await poll_until(lambda then=before: (now := member.status) is None or now.takeovers > then.takeovers)  # type: ignore[misc]


def main() -> None:
    """A gateway that obeys the signals of `sabotage`: what a keeper starts."""
    from llmactors.cli import run

    accept_sabotage()
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
