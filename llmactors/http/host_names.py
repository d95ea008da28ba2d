"""Whether a text can be the name of a host at all. Pure."""


def can_be_looked_up(host: str) -> bool:
    """Whether Python can look `host` up. For `a..b`, and for a part of more than 63 characters, it raises no `OSError`
    but a `UnicodeError`.
    """
    try:
        host.encode("idna")
    except UnicodeError:
        return False
    return "\0" not in host
