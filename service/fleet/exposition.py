"""Exposition: the metrics of all replicas as one text, with labels that tell them apart.

Both of Prometheus's text formats are lines: ``# HELP name ...`` and ``# TYPE name ...``, then samples,
``name{labels} value ...``. All lines of a family have to be together.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

END = "# EOF"


def merge(texts: Iterable[tuple[Mapping[str, str], str]]) -> str:
    """One text of several; each has labels to add to all of its samples."""
    families: dict[str, list[str]] = {}
    ends = False
    for labels, text in texts:
        added = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())
        lines: list[str] = []
        family, known = "", False
        for line in text.splitlines():
            if line == END:
                ends = True
            elif line.startswith("# "):
                named = line.split(" ", 3)[2]
                if named != family:
                    known = named in families
                    family, lines = named, families.setdefault(named, [])
                if not known:
                    lines.append(line)
            elif line:
                lines.append(_labelled(line, added))
    merged = [line for lines in families.values() for line in lines]
    return "\n".join([*merged, END] if ends else merged) + "\n"


def _labelled(sample: str, added: str) -> str:
    """A sample's line with more labels; an exemplar's labels, which come later, stay."""
    if not added:
        return sample
    name = sample[: len(sample) - len(sample.lstrip(_NAME))]
    rest = sample[len(name) :]
    if rest.startswith("{}"):
        return f"{name}{{{added}}}{rest[2:]}"
    if rest.startswith("{"):
        return f"{name}{{{added},{rest[1:]}"
    return f"{name}{{{added}}}{rest}"


_NAME = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_:"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
