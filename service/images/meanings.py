"""Meanings: what each parameter of an image says, for the API's documentation."""

from __future__ import annotations

from typing import Any

MEANINGS = {
    "class_label": "The class's id.",
    "cfg_scale": "Classifier-free guidance; 1 is none.",
    "num_sampling_steps": "Denoising steps.",
    "sampler": "The sampler.",
    "seed": "The seed of the image, or of a request's first.",
    "guidance_interval": "The part of the noise range, from 0 (picture) to 1 (noise), in which guidance"
    " applies.",
    "cfg_channels": "The first channels of the noise, to which guidance is limited; absent if it applies"
    " to all.",
    "class_name": "The class's name.",
    "quality": "The quality that sampler, steps and guidance interval stand for; null if the request"
    " named steps or a sampler.",
    "num_images": "How many images the request has.",
    "image_size": "Width and height, in pixels.",
    "model": "The model's name.",
    "model_digest": "A SHA-256 of the model's weights, in hexadecimal.",
    "dtype": "The numbers that the model computed with.",
    "reproducible": "Whether the service was in reproducible mode.",
    "version": "The service's version.",
    "solver_digest": "A SHA-256 of the fitted solver's table; absent with any other sampler.",
    "output_compression": "The quality of a WebP or JPEG, from 0 to 100; absent where it is 95.",
}


def add_meanings(schema: dict[str, Any]) -> None:
    """Describe the properties of a record's JSON schema."""
    for name, own in schema["properties"].items():
        own["description"] = MEANINGS[name]
