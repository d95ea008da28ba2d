"""The access log: one line for each request of a client, where the setting `access_log` is on."""


class AccessLog:
    """Whether requests are logged."""

    def __init__(self, *, enabled: bool = False) -> None:
        self.enabled = enabled

    def enable(self, enabled: bool) -> None:
        self.enabled = enabled
