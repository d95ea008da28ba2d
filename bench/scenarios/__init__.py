"""The scenarios. Each is one module with a `SCENARIO`."""

from bench.scenario import Scenario
from bench.scenarios import (
    durability,
    growth,
    idle,
    memory,
    overload,
    paced,
    proxy,
    real,
    saturate,
    scale,
    static,
    takeover,
)

SCENARIOS: dict[str, Scenario] = {
    module.SCENARIO.name: module.SCENARIO
    for module in (saturate, paced, idle, durability, overload, takeover, memory, growth, proxy, real, scale, static)
}
