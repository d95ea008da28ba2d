"""The time to the first token in front of slow upstreams, with and without a second request (`hedge_s`).

upstream    an upstream that is slow to begin, and counts what it was asked
callers     clients that measure the first token and check every token
__main__    `python -m bench.hedging`: the cases, the kills and the table
"""
