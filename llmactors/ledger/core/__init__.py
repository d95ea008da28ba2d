"""The pure parts of a ledger: no Trio, no clock, no I/O. Times are arguments.

lifecycle       every state change of a request
record          one request
token_log       a request's log, as one process knows it
backlog         the queue: bounds, classes, and the expected wait
class_queue     one queue per priority class
fair_queue      fairness among the tenants of a class
service_rate    how fast requests leave the queue
leases          which workers are alive, and what each holds
presence        which streams have a reader
timers          what is due when
archive         what is kept of ended requests
"""
