"""Tools for tests, ours and others': nodes, clusters, faults, checkers, and suites that every ledger must pass.

node                    a node in the test's own event loop, or as a process that can be killed
cluster                 gateways and workers as real processes, started again when they die
managed_process         one of these processes
redis_server, proxy     a real Redis or Valkey; a network in front of it that can fail
nemeses                 the faults: kill -9, freezes, lost connections, a full Redis
returning_clients       clients that come back to their streams like real ones
event_socket, history   the cheap sockets of these clients; a record of all that they saw
checker, key_observer   checks the promise on a history; checks that nothing is left in Redis
ledger_suite            the contract of a ledger, as tests
ledger_machine          a state machine that drives a ledger beside `ledger_model`
limit_machine           a state machine that counts what callers have used
side_by_side            compares two ledgers call by call
trio_thread             Trio in a thread, for state machines
"""
