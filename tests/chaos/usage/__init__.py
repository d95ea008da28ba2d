"""Usage over many kills: `python -m tests.chaos.usage`.

load      clients that cancel, that let deadlines pass, and that leave
run       the cluster, the kills and what Redis says of usage at the end
"""
