"""What operators met."""

from tests.faults.fault import Edit, Fault

_GIVEN_UP = "A request that is given up"
_DISK = "A full disk at a download"

FAULTS = (
    Fault(
        "A backend's exception has no traceback",
        (Edit("telemetry/tree.py", "exc_info=exit_.error", "cause=str(exit_)"),),
    ),
    Fault(
        _GIVEN_UP,
        (Edit("ledger/actor.py", "for letter in await self._ledger.take_new_dead_letters():", "for letter in ():"),),
        ("tests/virtual/batcher/test_crashes.py:test_two_poison_prompts_end_and_the_others_finish",),
    ),
    Fault(
        _GIVEN_UP,
        (
            Edit(
                "ledger/memory.py", "return self._life.take_new_dead_letters()", "return list(self._life.dead_letters)"
            ),
        ),
        ("llmactors/testing/ledger_suite/operating.py:DeadLetterSuite.test_new_dead_letter_is_taken_once",),
    ),
    Fault(
        _DISK,
        (Edit("backends/models/cache.py", "if error.errno in {errno.ENOSPC, errno.EDQUOT}:", "if False:"),),
    ),
    Fault(
        "A drained node that is started again",
        (
            Edit(
                "cluster/node_store.py",
                "redis.call('ZREM', KEYS[2], ARGV[2])\nreturn redis.call('DEL', KEYS[1])",
                "redis.call('ZREM', KEYS[2], ARGV[2])\nredis.call('DEL', KEYS[3])\nreturn redis.call('DEL', KEYS[1])",
            ),
            Edit(
                "cluster/node_store.py",
                "_REMOVE, 2, self._names.node(record.name), self._names.nodes, ",
                "_REMOVE, 3, self._names.node(record.name), self._names.nodes, self._names.cordon(record.name), ",
            ),
        ),
    ),
    Fault(
        "`--slots` overrides",
        (
            Edit(
                "backends/mock/kind.py",
                'own.slots if "slots" in given else node.slots or own.slots',
                "node.slots or own.slots",
            ),
        ),
    ),
    Fault(
        "`load` hides that its key is refused",
        (Edit("cli/load.py", "give a key that it knows with --api-key or GATEWAY_API_KEY", "see its log"),),
    ),
    Fault(
        "`up` blames the last line",
        (Edit("cluster/child.py", "self._reason = self._spec.reason(line) or self._reason", "self._reason = line"),),
    ),
    Fault(
        "Two operators requeue",
        (
            Edit(
                "ledger/redis/operators.lua",
                "if #redis.call('XRANGE', letters, entry, entry) == 0 then return 'unknown' end",
                "",
            ),
        ),
    ),
    Fault(
        "Some lines of a JSON log",
        (Edit("telemetry/logs.py", "wrap_stderr=_wrapped", 'wrap_stderr=lambda line: f"{line}\\n"'),),
    ),
    Fault(
        "The line about a stalled event loop",
        (Edit("telemetry/stall.py", "task = self._sampler.take() or _NO_TASK", "task = _NO_TASK"),),
    ),
    Fault(
        "Large requests that have ended",
        (
            Edit(
                "ledger/core/record.py",
                "(self.extra_bytes + self.size.bytes) // TOKEN_BYTES",
                "self.extra_bytes // TOKEN_BYTES",
            ),
        ),
    ),
)
