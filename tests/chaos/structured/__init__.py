"""kill -9 behind every 5th token of answers with schemas and calls of tools: `python -m tests.chaos.structured`.

cases     what is asked: each schema and each set of tools, greedy and with a seed, in three APIs
reader    one client, which follows its stream at another gateway when its own gateway dies
cuts      what the ledger in Redis says about running and ended requests
run       the kills, and the judgement on all answers
__main__  the command and its report
"""
