"""Validate the objects of one YAML file. `run.py` runs this script in an environment with the schemas.

python validate.py FILE.yaml VERSION…
"""

import sys
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import yaml
from cloudcoil.models.keda import v1alpha1 as keda


def strict(schema: Any) -> Any:
    """The schema with no field allowed that it does not name."""
    if isinstance(schema, list):
        return [strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: strict(value) for key, value in schema.items()}
    if "properties" in schema and "additionalProperties" not in schema:
        found["additionalProperties"] = False
    return found


KINDS = {("keda.sh/v1alpha1", "ScaledObject"): strict(keda.ScaledObject.model_json_schema(by_alias=True))}
"""Schemas of kinds that Kubernetes itself does not have."""


def problems(found: dict[str, Any], version: str) -> list[str]:
    """What is wrong with an object."""
    schema = KINDS.get((found["apiVersion"], found["kind"]))
    if schema is not None:
        return [
            f"{error.json_path}: {error.message}"
            for error in jsonschema.Draft202012Validator(schema).iter_errors(found)
        ]
    try:
        kubernetes_validate.validate(found, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        return [f"{'.'.join(map(str, error.path))}: {error.message}"]
    return []


def main(path: Path, versions: list[str]) -> int:
    """Prints a line for each object; 0 if all are valid."""
    wrong = 0
    for found in yaml.safe_load_all(path.read_text(encoding="utf-8")):
        said = {f"{version}: {each}" for version in versions for each in problems(found, version)}
        wrong += bool(said)
        print(f"{path.stem}: {found['kind']}/{found['metadata']['name']}: {'; '.join(sorted(said)) or 'valid'}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
