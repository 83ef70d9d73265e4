"""Stages: the trainings that a command consists of, as its log and its errors name them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

AUTOENCODER, WIDE, TEXTURED, TRANSFORMER = (
    "autoencoder",
    "wide decoder",
    "textured decoder",
    "transformer",
)
OPTIONS = {"photographs": "--data or --leave-out", "latents": "--data or --vae"}
"""Settings that an option gives only in part, or under another name."""

Settings = Mapping[str, object]
"""What a stage was trained with, under the names of the options: ``steps``, ``batch_size``."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One training. ``options`` names the settings that have another option than their own name."""

    name: str
    place: str = ""
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def title(self) -> str:
        return f"{self.place}, {self.name}" if self.place else self.name

    def check(self, saved: Settings, now: Settings, where: object) -> None:
        """Refuse to continue a training with other settings. What only one side names is left out.

        Raises:
            ValueError: some differ; each is named.
        """
        differ = [
            f"{self._option(name)} was {_shown(saved[name])} and is now {_shown(value)}"
            for name, value in now.items()
            if name in saved and saved[name] != value
        ]
        if differ:
            raise ValueError(
                f"{where} holds a training of the {self.name} with other options:"
                f" {', '.join(differ)}. Repeat the earlier options, or give another --out"
            )

    def _option(self, name: str) -> str:
        return self.options.get(name) or OPTIONS.get(name, f"--{name.replace('_', '-')}")


@dataclass(frozen=True, slots=True)
class Stages:
    """The stages of one command, in order; of a command that is not listed, any single one."""

    listed: tuple[str, ...] = ()
    options: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Stage:
        place = ""
        if name in self.listed:
            place = f"stage {self.listed.index(name) + 1} of {len(self.listed)}"
        return Stage(name, place, self.options.get(name, {}))


def _shown(value: object) -> str:
    return "not given" if value is None else str(value)
