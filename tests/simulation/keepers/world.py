"""What a simulation has more of where its gateways are below keepers."""

import functools
import random
import signal
from collections import Counter
from pathlib import Path

import attrs
import trio

from llmactors.testing.usage_oracle import UsageSeen
from tests.simulation.cluster import Process, SimulatedCluster
from tests.simulation.content.judge import request_ids
from tests.simulation.content.load import ContentLoad
from tests.simulation.keepers.fate import Fate
from tests.simulation.keepers.keeping import HeldGateways
from tests.simulation.keepers.plain import PlainLoad
from tests.simulation.keepers.sockets import Kernel
from tests.simulation.keepers.websockets import SocketLoad
from tests.simulation.load import VariedLoad
from tests.simulation.themes import WorldSettings


@attrs.frozen
class KeeperWorld:
    """The keepers of a world, and the clients that count on them."""

    kernel: Kernel
    fate: Fate
    gateways: HeldGateways
    load: PlainLoad
    sockets: SocketLoad

    @classmethod
    def of(cls, cluster: SimulatedCluster, world: WorldSettings, seed: int, folder: Path) -> "KeeperWorld":
        """Puts keepers in front of a cluster's gateways."""
        assert world.keeper_rate is not None
        fate = Fate(random.Random(f"fate of {seed}"), world.keeper_rate)
        kernel = Kernel(folder, random.Random(f"kernel of {seed}"), fate)
        gateways = HeldGateways(
            kernel,
            random.Random(f"keepers of {seed}"),
            cluster.node_settings,
            cluster.run_once,
            cluster.kill,
            cluster.drain,
            cluster.processes,
        )
        fate.kill = gateways.kill_by_fate
        cluster.run_gateways = functools.partial(gateways.run, world.gateways)
        load = PlainLoad(kernel, cluster.urls, world.plain, seed)
        made = cls(kernel, fate, gateways, load, SocketLoad(kernel, cluster.urls, world.websockets, seed))
        cluster.tell_keeper = made.tell
        return made

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Runs kernel and fate until cancelled. Has started once all gateways serve."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self.kernel.run)
            await self.gateways.wait_serving()
            trio.lowlevel.add_instrument(self.fate)
            task_status.started()

    async def run_loads(self) -> None:
        """Runs the clients until `stop_loads`, and then until all answers have come."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.load.run)
            nursery.start_soon(self.sockets.run)

    def stop_loads(self) -> None:
        """Stops new calls."""
        self.load.stop()
        self.sockets.stop()

    def tell(self, process: Process, what: str) -> None:
        """Has the keeper of a process upgrade, or lose its standby."""
        for keeper in self.gateways.keepers:
            if keeper.name == process.name and keeper.serves:
                if what == "upgrade":
                    keeper.tell(signal.SIGUSR2)
                else:
                    keeper.lose_standby()

    @property
    def strikes(self) -> Counter[str]:
        """How many gateways died at each kind of step."""
        return Counter({f"death {kind}": count for kind, count in self.fate.deaths.items()})

    def complaints(self, load: VariedLoad, content: ContentLoad, usage: UsageSeen | None) -> list[str]:
        """What no client below a keeper may see."""
        found = (
            self.load.problems[:5]
            + self.sockets.problems[:5]
            + [text for keeper in self.gateways.keepers for text in keeper.wrong[:3]]
        )
        cuts = sum((request.cuts for request in load.history.requests), Counter[str]())
        found += [f"{count} streams that could go on elsewhere were cut: {why}" for why, count in cuts.items()]
        for what in ("refused", "unknown", "http_errors"):
            found += [f"{count} {what}: {why}" for why, count in getattr(load.history, what).items()]
        if usage is not None:
            found += self._admitted_twice(load, content, usage)
        return found

    def _admitted_twice(self, load: VariedLoad, content: ContentLoad, usage: UsageSeen) -> list[str]:
        known = {request.id for request in load.history.requests}
        known |= {each for reader in content.readers for each in request_ids(reader, self.kernel.origins)}
        known |= {call.request_id for call in self.load.calls} | {each.id for each in self.sockets.streams}
        more = {request_id for request_id, _ in usage.records} - known
        # A client that left may not have read what its request is called.
        unnamed = sum(call.is_admitted and not call.request_id for call in self.load.calls)
        unnamed += sum(each.is_asked and not each.id for each in self.sockets.streams)
        return [f"{len(more)} requests that nobody asked for: {sorted(more)[:3]}"] if len(more) > unnamed else []
