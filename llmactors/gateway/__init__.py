"""The API: routes, admission, and the form of every response.

actor           serves the application on a socket
app             finds the route of a request, checks the caller, and answers
routes          the table of routes; `route`: one entry of the table
client_rules    the checks before keys: host names, web pages, and clients behind proxies
access_log      a line of the log for each request, or for each error
request_service what is done for a caller: admit, follow, cancel
admission       whether a request is accepted, and what its caller is charged
admitted_calls  what was admitted before, by the key of a call or its place on a connection
placing         on which shard of the ledger the requests of a call live
request_trace   the spans of a call, for a node that exports traces
answer_rules    tools and the form of the text, and what travels of them with a request
rule_fixer      makes constraints without a long hold on the event loop
queue_hint      refuses at once, over Redis, what a full queue would refuse a round trip later
queue_places    tells waiting clients their place in the queue
limit_check     what the requests of a call are charged
same_call       whether two calls with the same idempotency key ask for the same
outages         how a request that was accepted before waits for a ledger that is away
limit_reached   a refusal by a caller's limits
unknown_model   the refusal of a model that the caller cannot use
conversation_key  by what the turns of a conversation are known
answering_model which model made an answer, from the first token of its log
whole_answers   makes whole answers without a long hold on the event loop
settings        the bounds on what one caller may ask
body            how the JSON bodies of requests are read
reasoning_effort  how long a model is to think, as clients ask for it
sampling        the rules for drawing tokens that not every backend honours
anthropic/       Anthropic's API
native/         `/v1/generate`, `/v1/streams/{id}`, `/v1/ws`
openai/         the routes that OpenAI's clients use
openapi         `/openapi.json`
streaming/      moves token logs to clients
operating/      the JSON routes for operators
access_log      the lines of the access log
operators       the pages for operators; `pages` serves them
console         serves the files of the console
errors          the form of error responses; `actor_errors`: client errors for the errors of actors
"""
