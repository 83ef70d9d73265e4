"""Write the manifests that follow from other files, and check them all against their schemas.

make manifests; exits with 1 if an object does not fit. CRDS=FOLDER adds the schemas of the
CustomResourceDefinitions in a folder, as `kubectl get crd --output yaml` writes them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from deploy.manifests import crds, rules
from deploy.manifests.documents import (
    MISSING,
    OVERLAYS,
    ROOT,
    Document,
    files,
    kubectl,
    name_of,
    patches,
    rendered,
)
from deploy.manifests.schemas import Kind, Schema, faults


def objects() -> Iterator[tuple[str, Document]]:
    """Every whole object, and where it is from; those of the overlays if there is a kubectl."""
    partial = patches()
    yield from ((str(p.relative_to(ROOT)), each) for p, each in files() if p not in partial)
    if kubectl() is None:
        print(f"the overlays are not checked: {MISSING}")
        return
    for overlay in OVERLAYS:
        yield from ((overlay, each) for each in rendered(ROOT / overlay))


def check(others: dict[Kind, Schema]) -> int:
    """Print what is wrong; the number of objects with faults."""
    wrong = count = 0
    for source, document in objects():
        found, count = faults(document, others), count + 1
        wrong += bool(found)
        for fault in found:
            print(f"{source}: {name_of(document)}: {fault}")
    print(f"{count} objects, {wrong} with faults")
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m deploy.manifests", description=__doc__)
    parser.add_argument("--crds", type=Path, help="folder of CustomResourceDefinitions")
    options = parser.parse_args()
    rules.FILE.write_text(rules.text(), encoding="utf-8")
    return 1 if check(crds.schemas_in(options.crds) if options.crds else {}) else 0


if __name__ == "__main__":
    sys.exit(main())
