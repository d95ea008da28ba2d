"""How settings with secrets in them are shown."""

import re

MASKED = "***"
"""What is shown in place of a secret."""
_USER_INFO = re.compile(r"(?<=://)(?P<user>[^:@/?#]*:)?.*@")
_SECRET_PARAMETER = re.compile(
    r"(?P<name>(?:^|[?&;])(?:\w*[-_])?(?:key|token|secret|password|auth)=)[^&;#]*", re.IGNORECASE
)
_PIECE = re.compile(r"[^,|]+")


def mask_url(text: str) -> str:
    """A URL without its password, and without the keys among its parameters."""
    covered = _USER_INFO.sub(lambda match: f"{match['user'] or ''}{MASKED}@", text)
    return _SECRET_PARAMETER.sub(lambda match: match["name"] + MASKED, covered)


def mask_model(text: str) -> str:
    """What `--model` takes, with each of its URLs as `mask_url` shows it, and without keys among its options."""
    return _PIECE.sub(lambda match: mask_url(match[0]), text)
