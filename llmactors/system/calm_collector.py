"""How often the garbage collector of a process that serves runs."""

import gc

_is_calm = False


def calm_garbage_collector() -> None:
    """Lets the garbage collector run less often.

    The objects that exist at the start stay, and a stream makes thousands of short-lived objects but few cycles. With
    CPython's own thresholds the collector takes a tenth to a fifth of a busy node's time. Much larger thresholds than
    these save a little more, but stop the process for longer: 30 ms for 50,000 objects. The oldest generation is hardly
    ever collected, because that takes 100 to 200 ms with the requests of a minute in the ledger. So no request, no
    connection and no crash of a backend may leave objects in a cycle, which `test_freed_at_once.py` checks.
    """
    global _is_calm  # noqa: PLW0603 - a process has one collector
    if _is_calm:  # `gc.get_freeze_count` would count a million objects, which takes 30 ms
        return
    _is_calm = True
    gc.collect()
    gc.freeze()
    gc.set_threshold(2_000, 5, 10_000)
