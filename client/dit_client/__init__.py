"""dit_client: Python client of the DiT image-generation service. `Client` blocks, `AsyncClient` does not."""

from dit_client.async_client import AsyncClient
from dit_client.client import Client
from dit_client.errors import (
    AnswerCut,
    DeadlineExceeded,
    DeadlineImpossible,
    DeadlinePassed,
    DitError,
    FieldError,
    InvalidAnswer,
    InvalidRequest,
    NoAnswer,
    Overloaded,
    Problem,
    QueueFull,
    Refused,
    ServiceError,
    Unauthorized,
    Unavailable,
    UnknownClass,
)
from dit_client.events import Done, Event, Preview, Progress
from dit_client.options import Options, OutputFormat, Quality
from dit_client.results import (
    ClassEntry,
    Generation,
    Health,
    Image,
    Model,
    Parameters,
    Timings,
    Verification,
)
from dit_client.retries import NO_RETRIES, Retry, RetryPolicy
from dit_client.version import __version__

__all__ = [
    "NO_RETRIES",
    "AnswerCut",
    "AsyncClient",
    "ClassEntry",
    "Client",
    "DeadlineExceeded",
    "DeadlineImpossible",
    "DeadlinePassed",
    "DitError",
    "Done",
    "Event",
    "FieldError",
    "Generation",
    "Health",
    "Image",
    "InvalidAnswer",
    "InvalidRequest",
    "Model",
    "NoAnswer",
    "Options",
    "OutputFormat",
    "Overloaded",
    "Parameters",
    "Preview",
    "Problem",
    "Progress",
    "Quality",
    "QueueFull",
    "Refused",
    "Retry",
    "RetryPolicy",
    "ServiceError",
    "Timings",
    "Unauthorized",
    "Unavailable",
    "UnknownClass",
    "Verification",
    "__version__",
]
