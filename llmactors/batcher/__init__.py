"""Claims requests for free slots, drives one backend with them, and writes what comes out to the ledger.

`forming` decides, purely, which waiting requests make a static batch; `actor` does everything that touches others.
"""
