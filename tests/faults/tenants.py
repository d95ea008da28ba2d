"""Browsers, proxies and tenants."""

from tests.faults.fault import Edit, Fault

_PREFLIGHT = "A preflight is refused"
_LOCKED = "Wrong keys behind a proxy"

FAULTS = (
    Fault(
        "A page of any origin spends",
        (
            Edit(
                "gateway/client_rules.py",
                "check_origin(origin, site, _hosts_of(scope), self._allowed_origins)",
                "pass",
            ),
        ),
    ),
    Fault(
        "A name that a page lets resolve to the node",
        (Edit("gateway/client_rules.py", "if self._hosts is not None:", "if False:"),),
    ),
    Fault(
        _PREFLIGHT,
        (
            Edit(
                "gateway/client_rules.py",
                'if exchange.scope["method"] != "OPTIONS" or asked is None or origin is None:',
                "if True:",
            ),
        ),
        ("tests/integration/gateway/test_pages.py:test_preflight_is_answered_before_the_key",),
    ),
    Fault(
        _PREFLIGHT,
        (Edit("access/cors.py", '    "retry-after",\n', ""),),
        ("tests/unit/access/test_cors.py:test_every_documented_response_header_is_exposed",),
    ),
    Fault(
        _LOCKED,
        (Edit("gateway/client_rules.py", "if via is not None:\n            scope", "if False:\n            scope"),),
        ("tests/integration/gateway/test_pages.py:test_wrong_keys_count_for_the_client_behind_a_trusted_proxy",),
    ),
    Fault(
        _LOCKED,
        (
            Edit(
                "access/authentication.py",
                "        digest = Digest.of(given)\n        if self._single",
                "        self._check_attempts(client)\n        digest = Digest.of(given)\n        if self._single",
            ),
        ),
        ("tests/clients/test_nginx.py:test_wrong_keys_behind_nginx_lock_nobody_out",),
    ),
    Fault(
        "One tenant's short answers drop",
        (
            Edit(
                "ledger/core/archive.py",
                "record = self._kept.oldest_of(tenant)",
                "record = self._kept.oldest()",
            ),
            Edit("ledger/redis/lifecycle.lua", "redis.call('ZREVRANGE', crowded, 0, 0)[1]", "nil"),
        ),
    ),
    Fault(
        "A repeated POST with `Last-Event-ID`",
        (
            Edit(
                "gateway/native/generate.py",
                '_sequence_number(exchange.header(b"last-event-id")) if body.stream and key is not None else 0',
                "0",
            ),
        ),
    ),
    Fault(
        "`EventSource` cannot use a ticket",
        (
            Edit(
                "gateway/routes.py",
                "        handler=generate.follow,\n        go_on=generate.go_on,\n        takes_ticket=True,\n",
                "        handler=generate.follow,\n",
            ),
        ),
    ),
)
