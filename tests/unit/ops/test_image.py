"""The image: its locked versions are those that pyproject.toml allows, and the files that it is built from exist."""

import re
import tomllib

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.documents import PROJECT, read

_PIN = re.compile(r"(?P<name>[A-Za-z0-9._-]+)==(?P<version>[0-9][A-Za-z0-9.]*)")
EXTRAS = ("llama", "otel")
"""The extras that the image installs."""


def pins() -> dict[str, str]:
    lines = [line for line in read("ops/constraints.txt").splitlines() if not line.startswith("#")]
    found = [_PIN.fullmatch(line) for line in lines]
    assert all(found), [line for line, match in zip(lines, found, strict=True) if not match]
    return {canonicalize_name(match["name"]): match["version"] for match in found if match}


def test_constraints_name_versions_and_no_registry() -> None:
    """A version that is asked for by name is found in any registry, whichever one pip is set up with."""
    assert pins()
    assert not re.search(r"://|@|--", read("ops/constraints.txt"))


def test_constraints_satisfy_the_dependencies() -> None:
    project = tomllib.loads(read("pyproject.toml"))["project"]
    wanted = [*project["dependencies"]]
    for extra in EXTRAS:
        wanted += project["optional-dependencies"][extra]
    locked = pins()
    wrong = []
    for requirement in map(Requirement, wanted):
        version = locked.get(canonicalize_name(requirement.name))
        if version is None or not requirement.specifier.contains(version):
            wrong.append(f"{requirement} is locked as {version}: run `just lock`")
    assert not wrong, "\n".join(wrong)


def test_dockerfile_installs_the_extras_that_are_locked() -> None:
    assert tuple(re.findall(r"\*more\['(\w+)'\]", read("Dockerfile"))) == EXTRAS


def test_files_that_the_image_copies_are_sent_to_the_engine() -> None:
    """Each source of a COPY is there, and `.dockerignore` lets the file through."""
    allowed = {line[1:] for line in read(".dockerignore").splitlines() if line.startswith("!")}
    copies = [line.split()[1:-1] for line in read("Dockerfile").splitlines() if line.startswith("COPY ")]
    sources = {source for names in copies for source in names if not source.startswith(("--from", "/"))}
    assert sources <= allowed
    assert all((PROJECT / source).exists() for source in sources)


def test_tags_are_not_latest_and_digests_can_be_given() -> None:
    """Every base image is an argument, so that a digest can pin the image."""
    text = read("Dockerfile")
    bases = set(re.findall(r"^FROM (\S+)", text, re.MULTILINE))
    stages = set(re.findall(r"^FROM \S+ AS (\S+)", text, re.MULTILINE))
    assert bases - stages == {"${PYTHON_IMAGE}"}
    assert "ARG PYTHON_IMAGE=python:3.11-slim\n" in text
