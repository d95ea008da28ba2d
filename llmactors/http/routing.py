"""Finds the entries of a table of routes for a path. Pure."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Generic, Protocol, TypeVar

import attrs

_PARAMETER = re.compile(r"\{(?P<name>[a-z_]+)(?P<rest>:path)?\}")


class Routable(Protocol):
    """An entry of a table of routes."""

    @property
    def method(self) -> str:
        """An HTTP method, in upper case."""
        ...

    @property
    def path(self) -> str:
        """A path such as `/v1/streams/{id}`. `{id}` is one segment; `{id:path}` is the rest, which may be empty."""
        ...

    @property
    def head(self) -> bool:
        """Whether HEAD is answered as GET without the body."""
        ...


R = TypeVar("R", bound=Routable)


@attrs.frozen(eq=False)
class Resource(Generic[R]):
    """All routes of one path."""

    path: str
    routes: Mapping[str, R]
    """The routes by method. HEAD has the route of GET where that answers HEAD."""
    allowed: Sequence[str]
    """All methods that can be used on the path, for the `Allow` header. OPTIONS is one of them."""

    @classmethod
    def of(cls, path: str, routes: Iterable[R]) -> "Resource[R]":
        """The resource at `path`. Raises `ValueError` for two routes with one method."""
        by_method: dict[str, R] = {}
        for route in routes:
            if route.method in by_method:
                raise ValueError(f"two routes serve {route.method} {path}")
            by_method[route.method] = route
        get = by_method.get("GET")
        if get is not None and get.head:
            by_method["HEAD"] = get
        return cls(path, by_method, (*by_method, "OPTIONS"))


class Router(Generic[R]):
    """Finds resources by path.

    A path without parameters is found before a path with parameters. Of two paths with parameters, the first one in the
    table that fits is found.
    """

    def __init__(self, routes: Iterable[R]) -> None:
        by_path: dict[str, list[R]] = {}
        for route in routes:
            by_path.setdefault(route.path, []).append(route)
        self._static: dict[str, Resource[R]] = {}
        self._patterns: list[tuple[re.Pattern[str], Resource[R]]] = []
        for path, found in by_path.items():
            resource = Resource.of(path, found)
            if "{" in path:
                self._patterns.append((_pattern(path), resource))
            else:
                self._static[path] = resource

    def __repr__(self) -> str:
        return f"<Router of {len(self._static) + len(self._patterns)} paths>"

    def find(self, path: str) -> tuple[Resource[R], dict[str, str]] | None:
        """The resource at `path` and the path's parameters; None where there is none."""
        resource = self._static.get(path)
        if resource is not None:
            return resource, {}
        for pattern, other in self._patterns:
            match = pattern.fullmatch(path)
            if match is not None:
                return other, match.groupdict()
        return None


def _pattern(path: str) -> re.Pattern[str]:
    pieces: list[str] = []
    at = 0
    for parameter in _PARAMETER.finditer(path):
        pieces.append(re.escape(path[at : parameter.start()]))
        pieces.append(f"(?P<{parameter['name']}>{'.*' if parameter['rest'] else '[^/]+'})")
        at = parameter.end()
    return re.compile("".join([*pieces, re.escape(path[at:])]), re.DOTALL)
