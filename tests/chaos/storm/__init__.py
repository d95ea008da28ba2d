"""Hundreds of real faults, two at a time: `python -m tests.chaos.storm`.

nemeses   the faults, with their weights, and those of one process that only tests can cause
keepers   the gateways below keepers, and the faults of these
plain     clients that never connect again
rounds    which two faults strike in each round, from a seed; pure
run       a cluster under load, and round after round until the faults are spent
table     what was struck, how long it took to recover, and what the clients saw
"""
