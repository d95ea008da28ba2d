"""The faults of a storm, with their weights."""

import random

from llmactors.testing import nemeses, redis_nemeses
from llmactors.testing.cluster import Cluster
from llmactors.testing.nemeses import Nemesis
from tests.chaos.sabotage import CRASH_ACTOR, SHIFT_CLOCK
from tests.chaos.storm.keepers import KillStandby, KillTwice, UpgradeGateway

Weighted = list[tuple[Nemesis, float]]


class _Signal(Nemesis):
    """A signal to one process, which was forked to obey it."""

    number: int

    async def strike(self, rng: random.Random) -> None:
        member = rng.choice(self.cluster.members)
        # A process that starts has not said yet what the signal does, so it would end.
        if member.ready and member.signal(self.number):
            self.struck()


class CrashActor(_Signal):
    """Crashes one of the actors of a process."""

    name = "actors crashed"
    number = CRASH_ACTOR


class ShiftClock(_Signal):
    """Sets the wall clock of a process to a wrong time, or back."""

    name = "clocks set"
    number = SHIFT_CLOCK


def kept(cluster: Cluster) -> Weighted:
    """Faults by which Redis loses nothing. Three in a hundred pauses are long."""
    return [
        (nemeses.KillWorker(cluster), 3),
        (nemeses.KillGateway(cluster), 3),
        (nemeses.KillRedis(cluster, min_s=0.1, max_s=2.0), 2),
        (nemeses.FreezeWorker(cluster, min_s=0.3, max_s=4.0), 1),
        (nemeses.FreezeGateway(cluster, min_s=0.3, max_s=4.0), 1),
        (nemeses.FreezeRedis(cluster, min_s=0.3, max_s=4.0), 1),
        (nemeses.FreezeParts(cluster, "several", min_s=1.0, max_s=30.0), 0.3),
        (nemeses.FreezeParts(cluster, "everything", min_s=1.0, max_s=30.0), 0.2),
        (nemeses.ProxyCut(cluster), 2),
        (nemeses.ProxyLoseReplies(cluster), 1),
        (nemeses.ProxyBlackHole(cluster, min_s=0.5, max_s=3.0), 1),
        (nemeses.ProxyDelay(cluster, min_s=0.5, max_s=2.0), 1),
        (nemeses.ProxyRefuse(cluster, min_s=0.3, max_s=2.0), 1),
        (nemeses.ClientKill(cluster), 1),
        (nemeses.ClientPause(cluster, min_s=0.3, max_s=2.0), 0.5),
        (nemeses.FillMemory(cluster, min_s=0.5, max_s=1.5), 0.7),
        (redis_nemeses.RevokeCommand(cluster, min_s=0.3, max_s=2.0), 1),
        (redis_nemeses.ChangePassword(cluster, min_s=0.3, max_s=1.5), 0.7),
        (redis_nemeses.FlushFunctions(cluster), 1),
        (redis_nemeses.FillDisk(cluster, min_s=0.1, max_s=1.0), 0.7),
        (CrashActor(cluster), 2),
        (UpgradeGateway(cluster), 1),
        (KillStandby(cluster), 1),
        (KillTwice(cluster), 1),
        (ShiftClock(cluster), 1),
    ]


def lost(cluster: Cluster) -> Weighted:
    """Faults by which Redis loses what it has acknowledged, and some others that strike beside them."""
    return [
        (redis_nemeses.FlushAll(cluster), 2),
        (redis_nemeses.LoseFiles(cluster, min_s=0.1, max_s=1.0), 2),
        (redis_nemeses.LoseSuffix(cluster), 2),
        (nemeses.KillWorker(cluster), 1),
        (nemeses.KillGateway(cluster), 1),
        (nemeses.FreezeWorker(cluster, min_s=0.3, max_s=3.0), 0.5),
        (nemeses.FreezeGateway(cluster, min_s=0.3, max_s=3.0), 0.5),
        (nemeses.ProxyCut(cluster), 0.5),
        (nemeses.ProxyBlackHole(cluster, min_s=0.5, max_s=2.0), 0.5),
    ]
