"""Claims requests for free slots, drives one backend with them, and writes what comes out to the ledger.

`forming` decides which waiting requests make a static batch, `running` and `outbox` hold what came out and is not
written yet, all of them purely; `actor` does everything that touches others.
"""
