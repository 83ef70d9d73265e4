"""ImageParameters: the one record of everything that determines an image.

It is made once, from the request and the model, and then plans the trajectory, goes into the file's
metadata, the ETag and the answer, and is what /verify reads back.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from typing import Annotated

from pydantic import AfterValidator, ConfigDict, Field
from pydantic.dataclasses import dataclass

from model.sampling.parameters import ChannelCount, Sampling
from service.images.meanings import add_meanings

LARGEST_IMAGE = 65_536


def _writable(text: str) -> str:
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("Input should be text without lone surrogates")
    return text


def is_absent(value: object) -> bool:
    return value is None


def _quoted(text: str) -> str:
    """``text`` if a reader finds its end on a line of ``key: value, key: value``, else as JSON."""
    plain = text.isprintable() and text == text.strip() and not re.search(r"[,:]|^\"", text)
    return text if plain else json.dumps(text, ensure_ascii=not text.isprintable())


Text = Annotated[str, AfterValidator(_writable)]


@dataclass(
    frozen=True,
    slots=True,
    kw_only=True,
    config=ConfigDict(
        extra="forbid", strict=True, allow_inf_nan=False, json_schema_extra=add_meanings
    ),
)
class ImageParameters(Sampling):
    """Everything that determines a picture. No timestamp, so that the bytes of a file repeat."""

    cfg_channels: ChannelCount | None = Field(default=None, exclude_if=is_absent)
    class_name: Text
    image_size: Annotated[int, Field(ge=1, le=LARGEST_IMAGE)]
    model: Text
    model_digest: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    dtype: Text
    reproducible: bool
    version: Text
    solver_digest: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = Field(
        default=None, exclude_if=is_absent
    )
    output_compression: Annotated[int, Field(ge=0, le=100)] | None = Field(
        default=None, exclude_if=is_absent
    )

    def as_json(self) -> str:
        present = {name: value for name, value in asdict(self).items() if not is_absent(value)}
        return json.dumps(present, sort_keys=True)

    def as_line(self) -> str:
        """The form that image tools read: the prompt, then the settings on one line.

        A value that would break that line is a JSON string, as in Stable Diffusion web UI's format.
        """
        settings = {
            "Steps": self.num_sampling_steps,
            "Sampler": self.sampler,
            "CFG scale": self.cfg_scale,
            "Seed": self.seed,
            "Size": f"{self.image_size}x{self.image_size}",
            "Model": _quoted(self.model),
            "Model hash": self.model_digest[:10],
            "Class": self.class_label,
        }
        return f"{self.class_name}\n" + ", ".join(f"{k}: {v}" for k, v in settings.items())
