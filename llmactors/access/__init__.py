"""Who may call, and which web pages may.

keys/           API keys: records, stores in a file and in Redis, and the copy that a gateway keeps
authentication  finds the caller from the headers of a request, or from a ticket
attempts        counts the wrong keys of each address; pure
tickets         tickets that open a WebSocket or a stream for a browser
sessions        sessions of operators in browsers
hosts           the host names to which a node without keys answers
origins         which web pages may use a node; pure
cors            the headers with which browsers let pages read answers; pure
"""
