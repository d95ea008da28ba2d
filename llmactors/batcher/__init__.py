"""The batcher: claims requests for free slots, drives one backend with them, and appends its tokens to the ledger.

actor       the actor: what the backend says, which requests go to the backend, what goes back to the queue
claimer     the worker's lease, and the claims for free slots
free_slots  what a backend can take now; pure
writer      the appends to the ledger
giving_way  which requests may give up their slots to more urgent ones; pure
takeover_log  the log lines about claims after the first: takeovers and quarantine
claim_trace  the spans of a claim, for a node that exports traces
forming     which requests share a static batch, and when the batch begins; pure
window_timer  the timer of static batches
recent_peak  how many requests ran lately; pure
running     one claimed request and the tokens that its backend has made; pure
outbox      the requests that have something to append; pure
messages    what a batcher is told, besides what its backend says
settings    how a batcher behaves
"""
