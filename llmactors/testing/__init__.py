"""Tools for tests of llmactors and of what others build on it: `TESTING.md` beside this file shows three programs.

node                    a node in the event loop of the test, or as a process that the test can kill
cluster                 gateways and workers as real processes, which are started again when they die
managed_process         one process of a cluster
tracebacks              the exceptions in what a process wrote
redis_server            a real Redis or Valkey server of the test's own
proxy                   a TCP proxy that stands for a network and fails on demand
nemeses                 faults for a cluster: kill -9, freezes, lost connections, a full Redis
redis_nemeses           faults of the Redis server: a full disk, lost rights, lost functions, lost data
failover                a cluster whose Redis server has a replica and Sentinels, and its failovers
returning_clients       clients that reconnect to their streams as real clients do
event_socket            the reader of one SSE stream, cheap enough for many clients in one process
history                 the record of everything that the clients saw
checker                 the judgement on a history: was a request or a token lost, repeated or wrong?
key_observer            the keys that a run left in Redis
usage_oracle            whether logs, usage records, their sums and charges agree
side_by_side            a ledger that compares each answer of another ledger with the ledger in memory
schemas                 JSON schemas as clients send them, for tests of constrained output
longest_hold            how long any task held the event loop
host                    the free ports and the processes of this machine
trio_thread             a Trio event loop in a thread, for synchronous test code
ledger_suite            the contract of a ledger as tests for pytest and Hypothesis (extra `llmactors[testing]`)

Only `ledger_suite` imports a test runner.
"""
