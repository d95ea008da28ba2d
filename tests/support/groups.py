"""Which test files run in one process of pytest-xdist, and which of them begin first.

Marks `xdist_group` have no effect with pytest 9.2 and pytest-xdist 3.8, so the groups are made by the names of files.
"""

from xdist.scheduler import LoadScopeScheduling

GROUPS: dict[str, tuple[str, ...]] = {
    # The gaps of streams are measured, and one tally sums up all runs.
    "chaos": ("chaos/test_endings.py", "chaos/test_faults.py", "chaos/test_pauses.py"),
    # All mutants use one copy of the package.
    "mutants": ("chaos/test_mutations.py",),
    # All tests of a file use the same clusters or the same node.
    "moods": ("integration/cluster/test_redis_moods.py",),
    # A real model uses all cores of the machine.
    "model": (
        "integration/backends/test_llama.py",
        "integration/backends/test_llama_constraints.py",
        "integration/backends/test_llama_grammars.py",
        "integration/backends/test_llama_requests.py",
        "integration/backends/test_openai_llama.py",
        "integration/openai/test_conformance.py",
        "integration/openai/test_side_by_side.py",
        "integration/test_real_model.py",
    ),
    # Each of these tests takes long by itself, so others have to be left for the processes beside it.
    "simulation": ("simulation/test_simulation.py",),
    "schemathesis": ("integration/openapi/test_schemathesis.py",),
    "storm": ("chaos/test_storm.py",),
    "state machines": ("integration/ledger/test_redis_machine.py",),
    "keeper": ("integration/cluster/test_keeper.py",),
    "load": ("integration/load/test_against_a_node.py",),
    "shards": ("integration/ledger/test_sharded.py", "integration/ledger/test_redis_cluster.py"),
    "custom": ("integration/backends/test_custom.py",),
    "examples": ("integration/docs/test_examples.py",),
    "commands": ("integration/cli/test_cli.py",),
    "HTTP client": ("integration/http/test_client.py",),
    "load command": ("integration/cli/test_load.py",),
}
"""The files of each group, below `tests`. The groups begin in this order, before all other tests."""
_ORDER = list(GROUPS)
_GROUP_OF = {f"tests/{file}": name for name, files in GROUPS.items() for file in files}


def place_of(test_id: str) -> int:
    """The place of a test in the order in which tests begin."""
    group = _GROUP_OF.get(test_id.partition("::")[0])
    return len(_ORDER) if group is None else _ORDER.index(group)


class GroupScheduling(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """Gives each group to one process as a whole, and every other test to the next process that is free."""

    def _split_scope(self, nodeid: str) -> str:
        return _GROUP_OF.get(nodeid.partition("::")[0], nodeid)
