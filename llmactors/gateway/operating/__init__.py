"""The JSON routes for operators. None of them shows a prompt, an answer or a secret.

session       sessions of operators in browsers
nodes         the nodes of a cluster, and their models
tenants       who may call, within which limits, and what is used
requests      the requests that have not ended, one request, and the queue
changes       what operators change of running nodes: drain, uncordon, reload
dead_letters  the requests that were given up: list, requeue, purge
history       the last hour in figures, and the last restarts of actors
usage         what ended requests have used
drills        breaks parts of the node on purpose
open_connections  the connections that serve requests of clients now
parameters    reads the queries and bodies of these routes
"""
