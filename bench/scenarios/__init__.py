"""The scenarios. Each is one module with a `SCENARIO`."""

from bench.scenario import Scenario
from bench.scenarios import (
    crowd,
    durability,
    growth,
    idle,
    idle_streams,
    memory,
    overload,
    paced,
    proxy,
    real,
    saturate,
    scale,
    static,
    steady,
    takeover,
    tenants,
)

_MODULES = (
    *(saturate, steady, paced, idle, durability, overload, takeover, memory, growth, proxy, real),
    *(scale, crowd, idle_streams, tenants, static),
)
SCENARIOS: dict[str, Scenario] = {module.SCENARIO.name: module.SCENARIO for module in _MODULES}
