"""The pure parts of a ledger: no Trio, no clock, no I/O. Times are arguments.

lifecycle       the state changes of a request
record          the state of one request
token_log       a request's log, as one process knows it
model_queues    one queue per model, and the bounds on all of them
class_queue     order among the priority classes of one queue
fair_queue      fairness among the tenants of one class
service_rate    how fast requests leave the queue
conversations   which worker had each conversation last
leases          which workers are alive, and what each holds
silence         which workers lost their leases by silence, and what each held
passed_over     what one claim passes over, because it prefers another worker
preemption      which running request gives its slot to which waiting request
reader_grace    when a request without a reader is cancelled
timers          what is due when
archive         what is kept of ended requests
tenant_order    things of tenants in the order in which they came
queue_sums      what waits, by model, class and tenant
shares          how much each tenant has of something
usage           records of what ended requests have used, and sums of them
usage_spans     which hours and days a question about usage spans
"""
