"""Order: what a request in OpenAI's words means here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from service.engine.model_info import ModelInfo
from service.errors import FieldError, InvalidRequest, UnknownClass
from service.http.openai.request import PLACE, PRESETS, Asked, ImagesRequest
from service.images.encoding import LOSSY_QUALITY
from service.images.fields import read_fields
from service.images.limits import RequestLimits
from service.images.order import Order, check_model, take_order
from service.images.request import GenerateRequest

LOSSLESS = 100
"""The output_compression of a PNG."""

OUR_NAMES = MappingProxyType({"num_images": "n"})
NO_VALUES: Mapping[str, object] = MappingProxyType({})


def take_images_order(asked: Asked, model_info: ModelInfo, limits: RequestLimits) -> Order:
    """Translate a request, fill in the defaults, and check what depends on the server and its model.

    Raises:
        InvalidRequest: a field exceeds the server's limit or is not what the model has.
        UnknownClass: no class has this name.
        UnknownModel: another model is asked for.
    """
    own = asked.own
    if own.model is not None:
        check_model(own.model, model_info)
    _check_form(own, model_info)
    members = {**asked.beside, "num_images": own.n, "quality": PRESETS[own.quality]}
    if not asked.has_class_label:
        members["class_label"] = _class_of(own.prompt or "", model_info)
    try:
        order = take_order(read_fields(GenerateRequest, members, PLACE), model_info, limits)
    except InvalidRequest as error:
        raise _renamed(error, OUR_NAMES, {"quality": own.quality}) from None
    return order if own.output_format in (None, "png") else _compressed(order, own)


def size_of(model_info: ModelInfo) -> str:
    """The size of the model's images, as OpenAI writes it."""
    return f"{model_info.image_size}x{model_info.image_size}"


def _check_form(own: ImagesRequest, model_info: ModelInfo) -> None:
    wrong = []
    if own.size not in (None, "auto", size_of(model_info)):
        allowed = f"auto or {size_of(model_info)}, the size of this model's pictures"
        wrong.append(FieldError("size", f"must be {allowed}", own.size, allowed))
    compression = own.output_compression
    if own.output_format in (None, "png") and compression not in (None, LOSSLESS):
        allowed = f"{LOSSLESS} or absent: png has no loss; webp and jpeg take 0 to 100"
        wrong.append(FieldError("output_compression", f"must be {allowed}", compression, allowed))
    if wrong:
        raise InvalidRequest(*wrong)


def _class_of(prompt: str, model_info: ModelInfo) -> int:
    try:
        return model_info.classes.resolve(prompt).id
    except UnknownClass as error:
        raise UnknownClass(error.name, error.nearest, "prompt") from None
    except InvalidRequest as error:
        raise _renamed(error, {"class_label": "prompt"}) from None


def _renamed(
    error: InvalidRequest, names: Mapping[str, str], values: Mapping[str, object] = NO_VALUES
) -> InvalidRequest:
    """The same error with other names of its fields, and other values as the request has them."""
    return InvalidRequest(
        *(
            replace(
                each,
                field=names.get(each.field, each.field),
                value=values.get(each.field, each.value),
            )
            for each in error.errors
        )
    )


def _compressed(order: Order, own: ImagesRequest) -> Order:
    given = own.output_compression
    compression = None if given == LOSSY_QUALITY else given  # the default, written one way
    images = tuple(replace(each, output_compression=compression) for each in order.images)
    return replace(order, images=images)
