"""The formats of strings, as regular expressions. Pure.

Sources: RFC 3339 (dates and times, and durations in its appendix A), RFC 4122 (uuid), RFC 5321 (email, its usual form),
RFC 1123 (hostname), RFC 4291 (ipv6), RFC 3986 (uri, with an authority). Each expression allows only texts that have the
format, and of the rare forms, such as a quoted local part of an email address, none.
"""

_YEAR = "[1-9][0-9]{3}"
_LEAP_YEAR = "([1-9][0-9](0[48]|[2468][048]|[13579][26])|([2468][048]|[13579][26])00)"
_DATE = (
    f"({_YEAR}-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|1[0-9]|2[0-8]))"
    f"|{_LEAP_YEAR}-02-29)"
)
_TIME = r"([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"
_LABEL = "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_ATOM = "[A-Za-z0-9_+-]{1,64}"
_BYTE = "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_IPV4 = rf"{_BYTE}(\.{_BYTE}){{3}}"
_GROUP = "[0-9a-f]{1,4}"
_IPV6 = "|".join(
    [
        f"({_GROUP}:){{7}}{_GROUP}",
        *(f"({_GROUP}:){{{before}}}(:{_GROUP}){{1,{7 - before}}}" for before in range(1, 7)),
        f"({_GROUP}:){{1,7}}:",
        f":(:{_GROUP}){{1,7}}",
        "::",
    ]
)
_NUMBER = "[0-9]{1,4}"
_IN_DAY = f"(T({_NUMBER}H({_NUMBER}M({_NUMBER}S)?)?|{_NUMBER}M({_NUMBER}S)?|{_NUMBER}S))"
_DURATION = (
    f"P({_IN_DAY}|{_NUMBER}W|({_NUMBER}D|{_NUMBER}M({_NUMBER}D)?|{_NUMBER}Y({_NUMBER}M({_NUMBER}D)?)?){_IN_DAY}?)"
)
_URI_CHAR = "([A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-F]{2})"
_URI = (
    rf"[a-z][a-z0-9+.-]{{1,15}}://{_LABEL}(\.{_LABEL})*(:[0-9]{{1,4}})?"
    rf"(/{_URI_CHAR}*)*(\?({_URI_CHAR}|[/?])*)?(#({_URI_CHAR}|[/?])*)?"
)
_BASE64 = "([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?"

PATTERNS = {
    "date": f"^{_DATE}$",
    "time": f"^{_TIME}$",
    "date-time": f"^{_DATE}T{_TIME}$",
    "duration": f"^{_DURATION}$",
    "uuid": "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$",
    "email": rf"^{_ATOM}(\.{_ATOM})*@{_LABEL}(\.{_LABEL})+$",
    "hostname": rf"^{_LABEL}(\.{_LABEL})*$",
    "ipv4": f"^{_IPV4}$",
    "ipv6": f"^({_IPV6})$",
    "uri": f"^{_URI}$",
    "byte": f"^{_BASE64}$",
    "base64": f"^{_BASE64}$",
}
"""The regular expression of each format that is served."""
ANY_STRING = frozenset({"password", "binary"})
"""Formats that every string has."""
