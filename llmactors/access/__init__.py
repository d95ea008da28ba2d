"""Who may call, and which web pages may connect.

keys/           API keys: records, stores in a file and in Redis, and what a gateway knows of them
authentication  from a request's headers to its caller
attempts        bounds how many wrong keys one address may send
tickets         one-time tickets that open a WebSocket for a browser
origins         which web pages may open a WebSocket
"""
