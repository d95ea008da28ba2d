"""How settings with secrets in them are shown."""

import re

MASKED = "***"
"""What is shown in place of a secret."""
# Compiled when they are used first: most processes show no setting.
_USER_INFO = r"(?<=://)(?P<user>[^:@/?#]*:)?.*@"
_KEY_PARAMETER = r"(?i)(?P<name>(?:^|[?&;])(?:\w*[-_])?(?:key|token|secret|password|auth)=)[^&;#]*"
_PIECE = r"[^,|]+"


def mask_url(text: str) -> str:
    """A URL without its password, and without the keys among its parameters."""
    covered = re.sub(_USER_INFO, lambda match: f"{match['user'] or ''}{MASKED}@", text)
    return re.sub(_KEY_PARAMETER, lambda match: match["name"] + MASKED, covered)


def mask_model(text: str) -> str:
    """A value of `--model` with each URL as `mask_url` shows it, and without the keys among the options."""
    return re.sub(_PIECE, lambda match: mask_url(match[0]), text)
