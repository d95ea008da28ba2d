"""What a seed is about: the faults that go together, the cluster, and what its clients do. Pure.

Some promises can only be judged where nothing else goes wrong. So each seed has a theme, which says what may strike,
and the oracle knows from the schedule what a client may see.
"""

import random
from collections.abc import Callable

import attrs

from tests.simulation.content.load import ContentSettings
from tests.simulation.faults import FORGETS, KINDS, OF_KEEPERS, OF_UPSTREAMS, Fault, schedule_of

_LONG_SILENCES = frozenset({"cut off a worker for long", "cut off a gateway for long", "cut off all workers"})
_OF_OTHERS = {FORGETS, "lose a machine"} | _LONG_SILENCES | OF_UPSTREAMS | OF_KEEPERS
"""What strikes only where a theme is about it."""
EVERYONE = ("come and go", "cancel", "run late", "send twice", "flood")
"""All that visitors do beside the load: see `visitors`."""


@attrs.frozen(kw_only=True)
class WorldSettings:
    """The cluster of a simulation, and its clients."""

    gateways: int = 2
    workers: int = 2
    shards: int = 1
    """How many servers the ledger is on."""
    models: tuple[str, ...] = ("mock",)
    """`mock` is the mock of the package; `chain` and `fresh` are of `backend`."""
    slots: int = 3
    step_ms: int = 40
    lease_s: float = 1.5
    resume_grace_s: float = 10.0
    quarantine_from: int = 3
    preempt_after_s: float = 0.0
    max_queued: int = 1024
    retained_max: int | None = None
    retained_tokens_max: int | None = None
    """The bounds on ended requests; None for those of the package."""
    upstreams: bool = False
    """Whether there is a model whose tokens upstreams make. Only clients of `content` ask for it."""
    back_after_s: tuple[float, float] = (0.05, 0.8)
    """How soon a process that ended is started again."""
    skew_s: float = 0.0
    """How wrong the clocks of hosts are at most."""
    tenants: bool = False
    """Whether the requests are those of tenants with limits."""
    clients: int = 6
    tokens: tuple[int, int] = (24, 24)
    """The least and most tokens of an answer."""
    patience_s: float = 5.0
    """How long a client waits for an event before it tries another gateway."""
    load_s: float = 6.0
    """How long new requests come, at least."""
    classes: bool = False
    """Whether requests have classes of urgency."""
    sessions: bool = False
    """Whether requests belong to conversations."""
    long_texts: bool = False
    """Whether some answers have long tokens."""
    guilty: str = ""
    """What a few requests do to each backend that runs them: a word of `backend`."""
    visitors: tuple[str, ...] = ()
    content: ContentSettings = attrs.field(factory=lambda: ContentSettings(clients=()))
    """Clients that ask for more than plain text; in no world of tenants."""
    keeper_rate: float | None = None
    """Below keepers, the share of the kinds of steps at which gateways die: see `keepers`. None: without keepers."""
    plain: int = 0
    """How many clients of `keepers.plain` there are."""
    websockets: int = 0
    """How many clients of `keepers.websockets` there are."""
    bound_s: float = 12.0
    """The longest time in which a stream makes no progress, beside the times of faults."""


@attrs.frozen
class Plan:
    """What one seed does."""

    theme: str
    schedule: tuple[Fault, ...]
    world: WorldSettings


_Theme = Callable[[random.Random], tuple[WorldSettings, tuple[str, ...], int, float]]
"""Returns the world, the kinds of faults, how many faults strike, and within which time."""


def _models(rng: random.Random) -> tuple[str, ...]:
    return rng.choice((("mock",), ("chain",), ("chain", "mock")))


def _with_content(world: WorldSettings) -> WorldSettings:
    clients = () if world.tenants or "mock" not in world.models else ("mock", "mock")
    return attrs.evolve(world, content=ContentSettings(clients=clients))


def _mixed(rng: random.Random) -> tuple[WorldSettings, tuple[str, ...], int, float]:
    world = WorldSettings(
        models=_models(rng),
        preempt_after_s=rng.choice((0.0, 0.3)),
        skew_s=rng.choice((0.0, 5000.0)),
        tenants=rng.random() < 0.3,
        classes=True,
        sessions=True,
        visitors=EVERYONE,
        bound_s=40.0,
    )
    world = _with_content(world)
    return world, tuple(kind for kind in KINDS if kind not in _OF_OTHERS), 6, 6.0


def _contents(rng: random.Random) -> tuple[WorldSettings, tuple[str, ...], int, float]:
    """Answers with schemas, calls of tools and more, of a model here and of one that upstreams make."""
    world = WorldSettings(
        clients=2,
        upstreams=True,
        preempt_after_s=rng.choice((0.0, 0.3)),
        content=ContentSettings(clients=("mock", "mock", "far", "far")),
        bound_s=40.0,
    )
    # While Redis is full, nobody hears that a worker was only silent, and a charge for that may become a lasting one.
    cluster = tuple(kind for kind in KINDS if kind not in {*_OF_OTHERS, "Redis full"})
    return world, (*cluster, *sorted(OF_UPSTREAMS) * 2), 8, 6.0


def _forgetting(rng: random.Random) -> tuple[WorldSettings, tuple[str, ...], int, float]:
    """The gateway has the second copy of what Redis forgets, while a client reads it: nothing may end the gateway, its
    actors or the client.
    """
    step_ms = rng.choice((40, 150))
    world = WorldSettings(
        models=rng.choice((("mock",), ("chain",), ("chain",))),
        # With one slot some requests wait, and Redis forgets their claims.
        slots=rng.choice((1, 3)),
        step_ms=step_ms,
        tokens=(24, 24) if step_ms == 40 else (8, 12),
        # A client that waits at its gateway keeps the copy of its answer there.
        patience_s=20.0,
        classes=True,
        sessions=True,
        visitors=("come and go",),
        bound_s=40.0,
    )
    kinds = (
        FORGETS,
        FORGETS,
        "kill a worker",
        "cut off a worker",
        "cut off a gateway",
        "slow network",
        "drain a worker",
    )
    return world, kinds if rng.random() < 0.7 else (FORGETS,), 6, 6.0


def _silences(rng: random.Random) -> tuple[WorldSettings, tuple[str, ...], int, float]:
    """No silence is a death, and a client that waits at a silent gateway is a reader."""
    world = WorldSettings(
        models=_models(rng),
        quarantine_from=rng.choice((1, 2, 3)),
        resume_grace_s=1.0,
        tenants=rng.random() < 0.3,
        clients=4,
        tokens=(60, 200),
        patience_s=60.0,
        sessions=True,
        visitors=("come and go", "cancel"),
        bound_s=40.0,
    )
    return world, (*sorted(_LONG_SILENCES), "lose the replies to a worker"), 4, 9.0


def _guilty(rng: random.Random) -> tuple[WorldSettings, tuple[str, ...], int, float]:
    """Some requests crash whatever runs them, and only they are given up."""
    world = WorldSettings(
        models=("chain",),
        guilty=rng.choice(("crashes", "kills")),
        quarantine_from=rng.choice((2, 3)),
        # Short answers, so that a claim is often under way when a backend crashes.
        clients=8,
        tokens=(4, 20),
        visitors=("come and go", "cancel"),
        sessions=True,
        bound_s=40.0,
    )
    return world, ("slow network", "slow network", "slow disk", "slow disk", "drain a gateway"), 5, 5.0


def _losses(rng: random.Random) -> tuple[WorldSettings, tuple[str, ...], int, float]:
    """What is lost does not come back soon, so others have to notice."""
    machine = rng.random() < 0.5
    world = WorldSettings(
        workers=3,
        models=_models(rng),
        lease_s=1.5 if machine else 40.0,
        back_after_s=(50.0, 60.0),
        tokens=(24, 60),
        sessions=True,
        bound_s=9.0,
    )
    return world, ("lose a machine",) if machine else ("kill a worker",), 2, 5.0


def _harmless(rng: random.Random) -> tuple[WorldSettings, tuple[str, ...], int, float]:
    """What counts against no request."""
    world = WorldSettings(
        models=rng.choice((("mock",), ("chain",), ("fresh", "chain"))),
        preempt_after_s=rng.choice((0.0, 0.3)),
        skew_s=rng.choice((0.0, 5000.0)),
        tenants=rng.random() < 0.5,
        max_queued=rng.choice((1024, 8)),
        classes=True,
        sessions=True,
        tokens=(24, 70),
        visitors=EVERYONE,
        bound_s=9.0,
    )
    handing_over = (
        "drain a worker",
        "drain a gateway",
        "cordon a worker",
        "cordon a gateway",
        "Redis full",
        "slow disk",
    )
    outages = ("Redis away", "Redis stands still", "pause of everything", "Redis full", "slow disk")
    drains = rng.random() < 0.6
    if drains:
        world = attrs.evolve(world, models=rng.choice((("mock",), ("chain",))))
    return _with_content(world), handing_over if drains else outages, 6, 7.0


def _keeper(rng: random.Random) -> tuple[WorldSettings, tuple[str, ...], int, float]:
    """Gateways below keepers are killed at every step, and no client connects again."""
    world = WorldSettings(
        clients=2,
        keeper_rate=rng.choice((0.4, 0.9)),
        plain=4,
        websockets=3,
        step_ms=rng.choice((10, 40)),
        patience_s=30.0,
        load_s=4.0,
        content=ContentSettings(clients=("mock", "mock", "mock"), plain=True),
        bound_s=9.0,
    )
    return world, ("kill a gateway", "upgrade a gateway", "lose a standby", "drain a worker"), 4, 4.0


def _calm(rng: random.Random) -> tuple[WorldSettings, tuple[str, ...], int, float]:
    """Nothing strikes: everything is prompt, and bounds are kept."""
    world = WorldSettings(
        models=("chain",),
        preempt_after_s=rng.choice((0.0, 0.3)),
        tenants=True,
        max_queued=rng.choice((1024, 8)),
        retained_max=rng.choice((None, 10)),
        retained_tokens_max=rng.choice((None, 300)),
        classes=True,
        sessions=True,
        long_texts=True,
        tokens=(16, 50),
        visitors=(*EVERYONE, "come and go", "cancel"),
        load_s=8.0,
        bound_s=9.0,
    )
    return world, (), 0, 1.0


def _shards(rng: random.Random) -> tuple[WorldSettings, tuple[str, ...], int, float]:
    """A ledger on three servers, of which one after the other is away, stands still or is full."""
    world = WorldSettings(
        shards=3,
        workers=rng.choice((2, 3, 4)),
        models=_models(rng),
        preempt_after_s=rng.choice((0.0, 0.3)),
        tenants=rng.random() < 0.3,
        clients=8,
        classes=True,
        sessions=True,
        visitors=EVERYONE,
        bound_s=40.0,
    )
    of_servers = ("Redis away", "Redis stands still", "Redis full")
    return world, (*of_servers * 4, *(kind for kind in KINDS if kind not in {*_OF_OTHERS, *of_servers})), 6, 6.0


_THEMES: dict[str, tuple[int, _Theme]] = {
    "mixed": (6, _mixed),
    "contents": (5, _contents),
    "forgetting": (4, _forgetting),
    "silences": (3, _silences),
    "guilty": (2, _guilty),
    "losses": (2, _losses),
    "harmless": (4, _harmless),
    "calm": (2, _calm),
    "keeper": (4, _keeper),
    "shards": (0, _shards),
}
"""Each theme, and how many seeds it has among others. Those of `shards` are run for themselves: three servers take
three times as long.
"""
THEMES = tuple(_THEMES)


def plan_of(seed: int, *, themes: tuple[str, ...] = (), kinds: tuple[str, ...] = ()) -> Plan:
    """What a seed does: with one of `themes`, or of all; with faults of `kinds`, or with those of the theme."""
    rng = random.Random(f"plan of {seed}")
    names = themes or THEMES
    name = themes[0] if len(themes) == 1 else rng.choices(names, [_THEMES[each][0] for each in names])[0]
    world, own, faults, within_s = _THEMES[name][1](rng)
    schedule = schedule_of(rng, kinds or own, faults=faults, within_s=within_s)
    return Plan(name, _with_a_worker_left(schedule) if name == "keeper" else schedule, world)


def _with_a_worker_left(schedule: tuple[Fault, ...]) -> tuple[Fault, ...]:
    """The schedule with one drain of a worker: a gateway that begins while there is no worker refuses new requests."""
    drains = [fault for fault in schedule if fault.kind == "drain a worker"]
    return tuple(fault for fault in schedule if fault not in drains[1:])
