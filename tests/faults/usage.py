"""Usage: what is recorded, and what is not."""

from tests.faults.fault import Edit, Fault

_ONCE = ("llmactors/testing/ledger_suite/usage.py:UsageSuite.test_repeated_end_is_recorded_once",)
_SAME = ("llmactors/testing/ledger_suite/limiting.py:LimitSuite.test_ended_request_is_charged_for_what_it_used",)

FAULTS = (
    Fault(
        "An end that a worker repeats",
        (
            Edit(
                "ledger/memory.py",
                "and entry.first_seq + len(entry.deltas) == record.last_seq\n        ):\n",
                "and entry.first_seq + len(entry.deltas) == record.last_seq\n        ):\n"
                "            self._life._account(record, record.end)\n",
            ),
            Edit(
                "ledger/redis/workers.lua",
                "if entry and entry[2][1] == 'e' and entry[2][2] == last then return OK end",
                "if entry and entry[2][1] == 'e' and entry[2][2] == last then\n"
                "      note_usage(c, r, used_by(r, last))\n      return OK\n    end",
            ),
        ),
        _ONCE,
    ),
    Fault(
        "A request that the reaper or a client ends",
        (
            Edit(
                "ledger/redis/lifecycle.lua",
                "note_usage(c, r, used)",
                "if by_epoch ~= 0 then note_usage(c, r, used) end",
            ),
            Edit(
                "ledger/core/lifecycle.py", "        self.usage.add(\n", "        record.ended_by and self.usage.add(\n"
            ),
        ),
        _SAME,
    ),
    Fault(
        "Tokens from a cache are lost",
        (
            Edit(
                "ledger/redis/codec.py",
                "return (*parts, usage.cached_tokens) if usage.cached_tokens else parts",
                "return parts",
            ),
            Edit("limiter/used.py", "min(cached, known)", "0"),
        ),
        _ONCE,
    ),
    Fault(
        "A restart of the month's budget",
        (
            Edit(
                "ledger/redis/limits.lua",
                "if charge[2] == MONTH then return month_end(now) end",
                "",
            ),
            Edit("limiter/fixed_window.py", "if policy.kind is RateKind.CALENDAR_MONTH:", "if False:"),
        ),
    ),
)
