"""The sixteen faults of failoverbench, played by a provider on this machine against a gateway in front of it.

Written anew after failoverbench's catalogue and methodology 0.1 (https://github.com/failoverbench/failoverbench), with
its names S01 to S16, its checks and its four grades. Its own harness is not used.

profiles   how long the times of the faults are; pure
scenarios  the faults, and what a gateway has to do about each; pure
grading    from what the caller and the provider saw to a grade; pure
provider   the provider that fails
caller     one chat, as a careful caller reads it
play       plays scenarios through a gateway
published  the grades of other gateways, as failoverbench published them
scorecard  the table of all grades
kills      the same faults while a worker or a gateway is killed

`python -m bench.failover` plays them all against llmactors, and prints the scorecard.
"""
