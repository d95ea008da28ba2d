"""What must not be, after a run: a sentence for each promise that was broken."""

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs
import msgspec
import redis

from llmactors.redislink.names import LedgerKey, RedisNames
from llmactors.testing.checker import CheckReport
from llmactors.testing.history import RequestHistory
from tests.simulation.backend import Bench, chain_answer
from tests.simulation.determinism import BEGIN_S
from tests.simulation.faults import DEATHS, FORGETS, NO_REASON_TO_WAIT, SILENCES
from tests.simulation.load import LOUD, QUIET, VariedLoad
from tests.simulation.recording import counts_of
from tests.simulation.strikes import Charges
from tests.simulation.themes import Plan
from tests.simulation.visitors import Visitors

NAMES = RedisNames("main")
_PROMPT_S = 0.5
"""How late an event may reach a reader, where nothing is wrong."""
_WORK = (LedgerKey.OPEN, LedgerKey.DEADLINES, LedgerKey.UNREAD)
_TOKEN_BYTES = 150
_decode = msgspec.msgpack.Decoder().decode
_ID, _CODE, _ATTEMPTS = 0, 5, 6
"""Where a usage record has the id of its request, the code of its end, and the attempts that count."""


@attrs.frozen
class Recorded:
    """What the usage record of one request says."""

    id: str
    ended_at: float
    """In virtual seconds."""
    code: str
    attempts: int


@attrs.frozen(kw_only=True)
class Evidence:
    """All that is known of a run."""

    plan: Plan
    load: VariedLoad
    visitors: Visitors
    report: CheckReport
    charges: Charges
    bench: Bench
    clients: Sequence["redis.Redis"]
    """Of each server."""
    left: Sequence[str]
    """What was not settled after the run."""

    @property
    def forgets(self) -> bool:
        """Whether Redis forgot something that it had acknowledged."""
        return any(fault.kind == FORGETS for fault in self.plan.schedule)

    @property
    def is_calm(self) -> bool:
        return not self.plan.schedule and not self.plan.world.guilty


def complaints(evidence: Evidence) -> list[str]:
    """All broken promises."""
    plan = evidence.plan
    recorded = [each for client in evidence.clients for each in _recorded(client)]
    found = _broken(evidence)
    found += _failures(evidence, recorded)
    found += evidence.left
    found += _readings(evidence)
    found += _stalls(evidence)
    if {fault.kind for fault in plan.schedule} == {FORGETS} or not evidence.forgets:
        found += _attempts(evidence, recorded)
    if not evidence.forgets:
        found += _visitors(evidence, recorded)
    if evidence.is_calm:
        found += _lateness(evidence)
    if _loses_no_worker(plan):
        for client in evidence.clients:
            counts = counts_of(client.hgetall(NAMES.ledger(LedgerKey.COUNTERS)))  # type: ignore[arg-type]
            if counts.get("requeued_total"):
                found.append(f"{counts['requeued_total']} requests lost workers that were not lost")
    if plan.world.retained_tokens_max is not None or plan.world.retained_max is not None:
        found += _retained(evidence)
    return found


def _loses_no_worker(plan: Plan) -> bool:
    """Whether nothing takes a request from its worker but drains, cordons and more urgent requests."""
    kinds = {fault.kind for fault in plan.schedule}
    if plan.world.guilty or kinds & DEATHS or (FORGETS in kinds and len(kinds) > 1):
        return False
    return plan.theme == "harmless" or not kinds & SILENCES


def _broken(evidence: Evidence) -> list[str]:
    broken = dict(evidence.report.broken)
    if evidence.forgets and "replays_differ" in broken:
        # Nobody has a second copy of an answer whose client has its end, so the rest of the answer is made again.
        broken["replays_differ"] -= sum(
            request.replay is not None
            and evidence.load.choice(request).model != "mock"
            and _content(request) != _content(request.replay)
            for request in _requests(evidence)
        )
    return [f"{count} {kind}" for kind, count in broken.items() if count]


def _content(request: RequestHistory) -> list[tuple[int, str]]:
    return [*((token.seq, token.text) for token in request.tokens), *((end.seq, end.code) for end in request.ends)]


def unsettled(client: "redis.Redis") -> list[str]:
    """What is there only while a request waits or runs."""
    counts = counts_of(client.hgetall(NAMES.ledger(LedgerKey.COUNTERS)))  # type: ignore[arg-type]
    found = [
        f"{counts[name]} {name}" for name in ("queued", "queued_bytes", "running", "quarantined") if counts.get(name)
    ]
    found += [f"{key.value.name} is not empty" for key in _WORK if client.exists(NAMES.ledger(key))]
    for name in client.scan_iter(NAMES.ledger(LedgerKey.LIMIT, "concurrent*"), count=1000):
        found.append(f"{client.zcard(name)} permits were not returned")
    return found


def _recorded(client: "redis.Redis") -> list[Recorded]:
    entries: Any = client.xrange(NAMES.ledger(LedgerKey.USAGE_RECORDS))
    found = []
    for at, fields in entries:
        known = _decode(fields[b"u"])
        ended_at = int(at.partition(b"-")[0]) / 1000 - BEGIN_S
        found.append(Recorded(known[_ID], ended_at, known[_CODE], known[_ATTEMPTS]))
    return found


def _failures(evidence: Evidence, recorded: Iterable[Recorded]) -> list[str]:
    """Requests of the load that ended in an error, and why none of them had to."""
    plan = evidence.plan
    wrong: Counter[str] = Counter()
    died = Counter(
        {request.id: sum(request.sent_at <= at for at in evidence.charges.deaths) for request in _requests(evidence)}
    )
    for request in _requests(evidence):
        choice = evidence.load.choice(request)
        code = request.ends[0].code if request.ends else ""
        if choice.is_guilty:
            wrong["guilty requests that ended in another way"] += bool(request.ends) and code != "POISONED"
        elif code == "POISONED" and died[request.id] < plan.world.quarantine_from:
            wrong["innocent requests convicted"] += 1
        elif code == "INTERRUPTED" and evidence.forgets and choice.model != "mock":
            continue  # Redis lost tokens that were read already, and this model never makes the same again
        elif code and code != "POISONED":
            wrong[f"answers ended with {code}"] += 1
    if plan.world.guilty and (most := 2 * (plan.world.quarantine_from + 3)) < len(evidence.bench.deaths):
        wrong[f"deaths, of which two guilty requests may cause {most}"] += len(evidence.bench.deaths)
    for each in recorded:
        deaths = sum(at <= each.ended_at for at in evidence.charges.deaths)
        if each.code == "POISONED" and each.id not in died and deaths < plan.world.quarantine_from:
            wrong["requests of visitors convicted"] += 1
    return [f"{count} {what}" for what, count in wrong.items() if count]


def _requests(evidence: Evidence) -> list[RequestHistory]:
    return evidence.load.history.requests


def _attempts(evidence: Evidence, recorded: Iterable[Recorded]) -> list[str]:
    """Requests that were charged for more than what died or fell silent."""
    found = [each for each in recorded if each.attempts > 1 + evidence.charges.before(each.ended_at)]
    return [f"{len(found)} requests were charged too much, as {found[0]}"] if found else []


def _stalls(evidence: Evidence) -> list[str]:
    """Streams that made no progress for longer than the faults explain."""
    plan = evidence.plan
    excused_s = sum(fault.for_s for fault in plan.schedule if fault.kind not in NO_REASON_TO_WAIT)
    bound_s = plan.world.bound_s + excused_s
    worst = 0.0
    for request in _requests(evidence):
        if evidence.load.choice(request).is_guilty or request.accepted_at is None:
            continue
        moments = [
            request.accepted_at,
            *sorted(token.at for token in request.tokens),
            *(end.at for end in request.ends),
        ]
        worst = max(worst, *(after - at for at, after in itertools.pairwise(moments)), 0.0)
    return [f"a stream stood still for {worst:.1f} s, and {bound_s:.1f} s are explained"] if worst > bound_s else []


# What visitors saw.


def _texts(evidence: Evidence) -> dict[str, dict[int, str]]:
    """What the load saw of each request."""
    return {request.id: {token.seq: token.text for token in request.tokens} for request in _requests(evidence)}


def _readings(evidence: Evidence) -> list[str]:
    wrong: Counter[str] = Counter()
    known = _texts(evidence)
    for each in evidence.visitors.readings:
        seqs = [token.seq for token in each.tokens]
        wrong["holes or repetitions"] += seqs != list(range(each.after + 1, each.after + 1 + len(seqs)))
        wrong["second ends"] += len(each.ends) > 1 or each.after_end > 0
        wrong["events of other streams"] += each.foreign > 0
        wrong["ends in a wrong place"] += bool(each.ends) and each.ends[0].seq != each.after + len(seqs) + 1
        may_differ = evidence.forgets and each.model != "mock"
        texts = known.setdefault(each.id, {})
        if not may_differ:
            for token in each.tokens:
                wrong["tokens that others saw otherwise"] += texts.setdefault(token.seq, token.text) != token.text
        if each.model != "mock" and each.after == 0 and "visit" in each.prompt:
            seed = 1 if each.what == "send twice" else 0
            seen = [token.text for token in each.tokens]
            wrong["tokens that do not continue others"] += "?" in chain_answer(each.prompt, seed, seen, len(seen))
    return [f"visitors saw {count} {what}" for what, count in wrong.items() if count]


def _visitors(evidence: Evidence, recorded: Sequence[Recorded]) -> list[str]:
    wrong: Counter[str] = Counter()
    codes = {each.id: each.code for each in recorded}
    for each in evidence.visitors.readings:
        code = codes.get(each.id, "nothing")
        if each.was_cancelled:
            wrong["cancelled requests that ended in another way"] += code != "cancelled"
        allowed = {"length", "cancelled", *(["DEADLINE_EXCEEDED"] if each.deadline_s is not None else [])}
        if each.what != "come and go" and code not in allowed | {"POISONED"}:
            wrong[f"requests of visitors that ended with {code}"] += 1
    for one, other in evidence.visitors.twice:
        wrong["keys that admitted two requests"] += bool(one.id) and bool(other.id) and one.id != other.id
    return [f"{count} {what}" for what, count in wrong.items() if count]


def _lateness(evidence: Evidence) -> list[str]:
    """Events that reached one reader much later than another, and deadlines that were not kept."""
    found = []
    first: dict[tuple[str, int], float] = {}
    seen = [(request.id, request.accepted_at or 0.0, request.tokens) for request in _requests(evidence)]
    seen += [(each.id, each.begun, each.tokens) for each in evidence.visitors.readings]
    for request_id, _, tokens in seen:
        for token in tokens:
            place = request_id, token.seq
            first[place] = min(first.get(place, token.at), token.at)
    late = [
        token.at - max(first[request_id, token.seq], begun)
        for request_id, begun, tokens in seen
        for token in tokens
        if token.at - max(first[request_id, token.seq], begun) > _PROMPT_S
    ]
    if late:
        found.append(f"{len(late)} tokens came late to a reader, by {max(late):.2f} s at most")
    for each in evidence.visitors.readings:
        if each.deadline_s is not None and each.ends and each.ends[0].code:
            off_s = each.ends[0].at - each.begun - each.deadline_s
            if not -_PROMPT_S < off_s < _PROMPT_S:
                found.append(f"a deadline was kept {off_s:.2f} s late")
    return found


def _retained(evidence: Evidence) -> list[str]:
    """Ended requests that are kept: no more than the bounds, and those of a quiet tenant before those of others."""
    world, [client] = evidence.plan.world, evidence.clients
    found = []
    ended: list[bytes] = client.zrange(NAMES.ledger(LedgerKey.ENDED), 0, -1)  # type: ignore[assignment]
    if world.retained_max is not None and len(ended) > world.retained_max:
        found.append(f"{len(ended)} ended requests are kept, and {world.retained_max} are allowed")
    if world.retained_tokens_max is not None:
        sizes = [_bytes_of(client, request_id.decode()) for request_id in ended]
        most = world.retained_tokens_max * _TOKEN_BYTES * 1.2
        if sum(sizes) > most:
            found.append(f"{sum(sizes)} bytes of ended logs are kept, and {most:.0f} are allowed")
    kept = {request_id.decode() for request_id in ended}
    of: Mapping[str, list[str]] = {tenant: [] for tenant in (LOUD, QUIET)}
    for request in _requests(evidence):
        if request.ends:
            of[evidence.load.choice(request).tenant].append(request.id)
    gone = [each for each in of[QUIET] if each not in kept]
    if gone and sum(each in kept for each in of[LOUD]) > len(of[QUIET]) + 1:
        found.append(f"{len(gone)} answers of a quiet tenant were deleted, and more of a loud one were kept")
    return found


def _bytes_of(client: "redis.Redis", request_id: str) -> int:
    entries: Any = client.xrange(NAMES.ledger(LedgerKey.LOG, request_id))
    return sum(len(value) for _, fields in entries for value in fields.values())
