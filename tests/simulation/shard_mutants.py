"""Bugs of a ledger over several servers, by which requests would be lost, stand still, or be counted twice."""

from tests.chaos.test_mutations import Mutant

_CLAIMING = "llmactors/ledger/sharded/claiming.py"
_LEDGER = "llmactors/ledger/sharded/ledger.py"
_MEMBERS = "llmactors/ledger/sharded/members.py"
_PLACEMENT = "llmactors/ledger/sharded/placement.py"
_SHARD = "llmactors/ledger/sharded/shard.py"
_WORKERS = "llmactors/ledger/sharded/workers.py"
_TESTS = "tests/unit/ledger/sharded"


def _mutant(name: str, file: str, old: str, new: str, only: str, tests: str = _TESTS) -> Mutant:
    return Mutant(f"shards: {name}", file, old, new, tests, only)


SHARD_MUTANTS = [
    _mutant(
        "a claim that was lost is not asked again",
        _CLAIMING,
        "                if not is_answered:  # the next",
        "                if False:  # the next",
        "restart",
    ),
    _mutant(
        "what a server gave too late is forgotten",
        _CLAIMING,
        "            member.keep_late(model, shard.number, name, claims)\n",
        "",
        "asked_twice_at_once",
    ),
    _mutant(
        "a swap that was made too late is forgotten",
        _WORKERS,
        "                if late is not None:\n",
        "                if False:\n",
        "answer_comes_late",
    ),
    _mutant(
        "a server that was slow is never asked again",
        _SHARD,
        "                    self._is_slow = False\n",
        "",
        "frozen_shard or asked_again",
    ),
    _mutant(
        "each server is asked for all slots",
        _CLAIMING,
        "in member.rotation(model).share(free, asked, weight_of).items()",
        "in dict.fromkeys(asked, free).items()",
        "divided_among",
    ),
    _mutant(
        "slots stay open while they are claimed for",
        _CLAIMING,
        "        now_open = self._open(member, model)\n        tried",
        "        now_open: dict[int, int] = {}\n        tried",
        "filled_from_others",
        "tests/integration/ledger/test_sharded.py",
    ),
    _mutant(
        "a worker claims before a server knows what ended",
        _CLAIMING,
        "if shard.answers and not shard.kept}",
        "if shard.answers}",
        "kept_ends_are_told",
    ),
    _mutant(
        "a charged request lives where its id says",
        _PLACEMENT,
        "shard = self.home_of(tenant)",
        "shard = self.shard_of(request_ids[0])",
        "home or limits",
    ),
    _mutant(
        "a worker leaves one server",
        _WORKERS,
        "            for shard in self._shards:\n                nursery.start_soon(shard.tell_gone",
        "            for shard in self._shards[:1]:\n                nursery.start_soon(shard.tell_gone",
        "leaves_all",
    ),
    _mutant(
        "a worker hears of work on one server",
        _WORKERS,
        "        for shard in self._shards:\n            nursery.start_soon(self._listen",
        "        for shard in self._shards[:1]:\n            nursery.start_soon(self._listen",
        "hears_of_work",
    ),
    _mutant(
        "tokens for a server that is away are dropped",
        _SHARD,
        "        self._keep(lambda: self._append_kept(entries))\n",
        "",
        "kept_tokens",
    ),
    _mutant(
        "an end for a server that is away is dropped",
        _SHARD,
        "        self._keep(lambda: self._tell_kept(operation))\n",
        "",
        "kept_release",
    ),
    _mutant(
        "a worker goes on with what a server took from it",
        _WORKERS,
        "            stop += lost\n",
        "",
        "lease_lost_on_one_shard",
    ),
    _mutant(
        "a reaper reaps one server",
        _LEDGER,
        "return sum((await self._answers(lambda ledger: ledger.reap())).values())",
        "return await self.shards[0].ledger.reap()",
        "reaps_all",
    ),
    _mutant(
        "a worker waits for a request that has gone",
        _WORKERS,
        "            member.reserved_for = None\n        member.look",
        "            pass\n        member.look",
        "went_elsewhere",
    ),
    _mutant(
        "a suspect runs beside requests of another server",
        _MEMBERS,
        "if claim.quarantined and any(of != shard for of in self.held.values()):",
        "if False:",
        "suspect",
    ),
]
