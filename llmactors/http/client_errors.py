"""What can go wrong between the HTTP client and a server. The callers of the client convert these errors to their
own.
"""


class HttpClientError(Exception):
    """A request got no complete response. The base of all errors that the client raises."""


class ConnectFailed(HttpClientError):
    """No connection could be opened: the name is unknown, the port refuses, TLS fails, or the proxy declines."""


class ConnectTimeout(ConnectFailed):
    """No connection was open within the client's `connect_s`."""


class ConnectionCut(HttpClientError):
    """The server closed the connection, or the connection broke, before the response was complete.

    Args:
        detail: What happened, for people.
        begun: Whether any byte of the response had come.
    """

    def __init__(self, detail: str, *, begun: bool) -> None:
        super().__init__(detail)
        self.begun = begun


class BadResponse(HttpClientError):
    """The server sent something that is no HTTP/1.1 response, or that exceeds a bound of `ResponseLimits`."""
