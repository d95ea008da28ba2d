"""All planted faults, by the module of their table."""

from collections.abc import Mapping, Sequence

from tests.faults import (
    holds,
    keeper,
    operators,
    redis_moods,
    runtime,
    shards,
    surroundings,
    tenants,
    upstreams,
    usage,
    wire,
)
from tests.faults.fault import Fault

FAULTS: Mapping[str, Sequence[Fault]] = {
    "holds": holds.FAULTS,
    "surroundings": surroundings.FAULTS,
    "redis moods": redis_moods.FAULTS,
    "tenants": tenants.FAULTS,
    "wire": wire.FAULTS,
    "upstreams": upstreams.FAULTS,
    "runtime": runtime.FAULTS,
    "operators": operators.FAULTS,
    "usage": usage.FAULTS,
    "keeper": keeper.FAULTS,
    "shards": shards.FAULTS,
}
"""In the order of the tables of `tests/FAULTS.md`."""
