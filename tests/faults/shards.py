"""A ledger over several Redis servers, one of which is away."""

from tests.faults.fault import Edit, Fault

FAULTS = (
    Fault(
        "What is said of a lost server's requests overtakes",
        (
            Edit(
                "ledger/sharded/shard.py",
                "        if not self._kept:\n            results = await self.ask(lambda",
                "        if True:\n            results = await self.ask(lambda",
            ),
        ),
    ),
    Fault(
        "A worker never hears that tokens were not wanted",
        (
            Edit(
                "ledger/sharded/shard.py",
                "self.refused[entry.request_id, entry.epoch] = result",
                "pass",
            ),
        ),
    ),
    Fault(
        "A worker goes on with requests of a server that has ended its lease",
        (
            Edit(
                "ledger/sharded/workers.py",
                "lost = member.lose(number)",
                "lost = member.lose(number)[:0]",
            ),
        ),
    ),
    Fault(
        "A worker never hears that a request gave up its slot",
        (
            Edit(
                "ledger/sharded/workers.py",
                "member.over.append(late.given_up)",
                "pass",
            ),
        ),
    ),
    Fault(
        "A worker begins what a server gave to it late",
        (
            Edit(
                "ledger/sharded/members.py",
                "late[:] = [each for each in late if each[0] != shard]",
                "pass",
            ),
        ),
    ),
    Fault(
        "A request in quarantine runs beside requests of another server",
        (
            Edit(
                "ledger/sharded/members.py",
                "if claim.quarantined and any(of != shard for of in self.held.values()):",
                "if False:",
            ),
        ),
    ),
    Fault(
        "A charged request is counted on another server",
        (
            Edit(
                "ledger/sharded/placement.py",
                "shard = self.home_of(tenant)",
                "shard = self.shard_of(request_ids[0])",
            ),
        ),
    ),
)
