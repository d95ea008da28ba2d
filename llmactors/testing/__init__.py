"""Tools for tests, ours and others': whole nodes, clients that check what they read, suites for new ledgers.

node                    a node in the test's own event loop, or as a process that can be killed
raw_http, streams       clients in full view of the socket; a stream read over any number of connections
returning,              clients that come back like real ones, and all that they saw, over sockets as cheap as can be
event_socket, history
leaving                 clients that go away, on each route and in each way
watched_mock            the simulated model, with a record of what it was given and what it did
faulty_upstream         an OpenAI-compatible server for a node to depend on, which does what no server should
canned_server,          a server that says what it is told to, for clients of ours; and what it may be told to say
canned_answers
redis_server, proxy     a real Redis or Valkey of one's own; a network between it and others that can fail
cluster, member         gateways and workers as real processes, started again when they die
nemeses                 the faults: kill -9, freezes, lost connections, a full Redis
checker, key_observer   the verdict: each accepted request ended once, with each token once; nothing is left in Redis
fairness                how evenly something was shared out
models                  the weights of a small real model
ledger_suite,           what every ledger must pass: the contract, and state machines beside an independent model and a
ledger_machine,         naive account of what callers have used
ledger_model,
limit_machine,
side_by_side,
trio_thread
residue, passes         finds containers that should be empty and are not; counts the passes of the scheduler
"""
