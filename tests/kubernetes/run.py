"""Render every overlay of `ops/kubernetes`, and validate each object against the schemas of Kubernetes and KEDA.

    python -m tests.kubernetes.run

kustomize or kubectl must be installed. The schemas are packages of PyPI, which the program installs into an
environment of its own: about 110 MB, the first time. An unknown field counts as wrong.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.clients.libraries.environments import environment_of
from tests.clients.libraries.table import Client
from tests.support.documents import PROJECT

FOLDER = PROJECT / "ops" / "kubernetes"
OLDEST, NEWEST = "1.31.0", "1.37.0"
"""The versions of Kubernetes whose schemas are used."""
SCHEMAS = Client(
    name="schemas of Kubernetes",
    packages=("kubernetes-validate>=1.37", "cloudcoil-models-keda>=2.16.1", "jsonschema>=4.25", "pyyaml>=6"),
    script="validate.py",
)
_SCRIPT = Path(__file__).parent / "validate.py"


def renderer() -> list[str] | None:
    """The command that renders a kustomization; None if there is none."""
    if shutil.which("kustomize"):
        return ["kustomize", "build"]
    if shutil.which("kubectl"):
        return ["kubectl", "kustomize"]
    return None


def kustomizations() -> Iterator[Path]:
    """The folders that a user applies."""
    yield FOLDER / "base"
    yield from sorted(path.parent for path in FOLDER.glob("overlays/*/kustomization.yaml"))


def render(folder: Path, command: Sequence[str]) -> str:
    """The objects of a kustomization as one YAML text. Raises `CalledProcessError`."""
    return subprocess.run([*command, str(folder)], capture_output=True, text=True, check=True).stdout


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints a line for each object; 0 if all are valid."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter).parse_args(arguments)
    command = renderer()
    if command is None:
        print("neither kustomize nor kubectl is installed: https://kubectl.docs.kubernetes.io", file=sys.stderr)
        return 1
    python = environment_of(SCHEMAS) / "bin" / "python"
    wrong = 0
    with tempfile.TemporaryDirectory(prefix="llmactors-kubernetes-") as directory:
        for folder in kustomizations():
            rendered = Path(directory) / f"{folder.name}.yaml"
            try:
                rendered.write_text(render(folder, command), encoding="utf-8")
            except subprocess.CalledProcessError as error:
                print(f"{folder.name}: {error.stderr}", file=sys.stderr)
                return 1
            wrong += subprocess.run([python, _SCRIPT, rendered, OLDEST, NEWEST], check=False).returncode != 0
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
