"""Documents: the objects in the manifests, as they lie and as kustomize puts them together."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
FOLDERS = (ROOT / "deploy" / "kubernetes", ROOT / "deploy" / "ray")
OVERLAYS = ("deploy/kubernetes/cpu", "deploy/kubernetes/gpu", "deploy/ray")
MISSING = "there is no kubectl, which has kustomize"

Document = dict[str, object]


def kind_of(document: Document) -> tuple[str, str]:
    """The object's apiVersion and kind."""
    return str(document.get("apiVersion", "")), str(document.get("kind", ""))


def name_of(document: Document) -> str:
    metadata = document.get("metadata")
    name = metadata.get("name", "") if isinstance(metadata, dict) else ""
    return f"{document.get('kind')} {name}"


def files() -> Iterator[tuple[Path, Document]]:
    """Every object in a file of its own or of several; kustomize's own files are left out."""
    for path in sorted(path for folder in FOLDERS for path in folder.rglob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text(encoding="utf-8")):
            if "apiVersion" in document and not kind_of(document)[0].startswith("kustomize."):
                yield path, document


def patches() -> set[Path]:
    """The files that only change objects of others, and are not whole by themselves."""
    found = set()
    for path in (path for folder in FOLDERS for path in folder.rglob("kustomization.yaml")):
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
        found |= {path.parent / each["path"] for each in tree.get("patches", ())}
    return found


def kubectl() -> str | None:
    """Where it is, if it is installed."""
    return shutil.which("kubectl")


def rendered(folder: Path) -> list[Document]:
    """What `kubectl apply -k` would apply.

    Raises:
        subprocess.CalledProcessError: kustomize refuses it; its reason is on standard error.
    """
    command = [str(kubectl()), "kustomize", str(folder)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return list(yaml.safe_load_all(done.stdout))
