"""Who may call, and which web pages may connect.

keys/           API keys: records, stores in a file and in Redis, and the copy that a gateway keeps
authentication  finds the caller from the headers of a request, or from a ticket
attempts        counts the wrong keys of each address; pure
tickets         one-time tickets that open a WebSocket for a browser
origins         which web pages may open a WebSocket; pure
"""
