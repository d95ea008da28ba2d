"""Tools for tests, ours and others': whole nodes, clients that check what they read, suites for new ledgers.

node                    a node in the test's own event loop, or as a process that can be killed
raw_http, streams       clients in full view of the socket; a stream read over any number of connections
models                  the weights of a small real model
ledger_suite,           what every ledger must pass: the contract, and a state machine beside an independent model
ledger_machine,
ledger_model
residue                 finds containers that should be empty and are not
"""
