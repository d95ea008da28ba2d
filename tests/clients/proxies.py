"""Configurations of proxies: those of `ops/`, with the ports and certificates of a test."""

import re
from pathlib import Path

from tests.support.documents import PROJECT

NAME, TEST_NAME = "llm.example.com", "llm.example"
"""The host name in the files, and the name that the browser of the tests knows."""
_GATEWAYS = ("127.0.0.1:8000", "127.0.0.1:8001")


def _with_gateways(text: str, *gateways: str) -> str:
    """Puts the addresses of gateways in place of those of the file. A single gateway takes both places."""
    for old, new in zip(_GATEWAYS, (gateways[0], gateways[-1]), strict=True):
        assert old in text
        text = text.replace(old, new)
    return text.replace(NAME, TEST_NAME)


def nginx_with_tls(port: int, certificate: Path, *gateways: str) -> str:
    """The file `ops/nginx/llmactors.conf` on a port of this machine. `gateways` are one or two addresses."""
    text = (PROJECT / "ops" / "nginx" / "llmactors.conf").read_text(encoding="utf-8")
    text = text.replace("listen 443 ssl", f"listen 127.0.0.1:{port} ssl")
    return _with_gateways(re.sub(r"/etc/ssl/[a-z.]+", str(certificate), text), *gateways)


def nginx_without_tls(port: int, *gateways: str) -> str:
    """The same without TLS, as where something in front of nginx ends TLS."""
    text = nginx_with_tls(port, Path("unused"), *gateways).replace(" ssl;", ";")
    return re.sub(r"ssl_certificate.*;", "", text)


def caddy_without_tls(port: int, *gateways: str) -> str:
    """The file `ops/caddy/Caddyfile` on a port of this machine, without TLS."""
    text = (PROJECT / "ops" / "caddy" / "Caddyfile").read_text(encoding="utf-8")
    site = re.sub(rf"^{re.escape(NAME)} {{", f"http://:{port} {{\n\tbind 127.0.0.1", text, flags=re.MULTILINE)
    return "{\n\tadmin off\n\tauto_https off\n}\n" + _with_gateways(site, *gateways)
