"""One file for each scenario."""

from bench.scenario import Scenario
from bench.scenarios import growth, idle, memory, paced, saturate, scale, takeover

SCENARIOS: dict[str, Scenario] = {
    module.SCENARIO.name: module.SCENARIO for module in (saturate, paced, idle, takeover, memory, growth, scale)
}
