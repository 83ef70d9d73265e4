"""Find photographs that appear in two classes.

    python -m model.train.data.duplicates --data PHOTOGRAPHS

A picture that appears in two classes teaches the DiT to draw one for the other, and no classifier can
tell the two apart. This command only reports them: which of the two labels is wrong is for you to say.
Leave the wrong files out of the training with --leave-out.
"""

from __future__ import annotations

from collections import defaultdict

import torch
import torch.nn.functional as F
from torch import Tensor

from model.train.data.photographs import Photographs, photographs_from
from model.train.data.similarity import distances
from model.train.options import (
    add_photograph_options,
    add_threads_option,
    command_parser,
    named_errors,
    set_threads,
)

LIMIT = 3.0
"""RMS difference in levels of 255: above that of one photograph saved twice, below that of two frames."""

COARSE_SIDE = 16
CHUNK = 1024


def duplicates(images: Tensor, labels: Tensor, limit: float = LIMIT) -> list[tuple[int, int]]:
    """Pairs (i, j) of uint8 images (N, 3, S, S): j is the nearest to i with another label, within ``limit``.

    The nearest is found among pictures reduced to a few pixels: averaging never increases a distance.
    """
    coarse = F.avg_pool2d(images.float(), max(1, images.shape[-1] // COARSE_SIDE)).double()
    found = []
    for start in range(0, len(images), CHUNK):
        chunk = slice(start, start + CHUNK)
        coarse_distances = distances(coarse[chunk], coarse)
        coarse_distances[labels[chunk, None] == labels] = torch.inf
        smallest, others = coarse_distances.min(1)
        for i in (smallest <= limit).nonzero().flatten().tolist():
            j = int(others[i])
            if float(distances(images[start + i, None], images[j, None])) <= limit:
                found.append((start + i, j))
    return found


def report(photographs: Photographs) -> str:
    """One line for each pair of classes that share photographs."""
    shared: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
    labels = photographs.labels.tolist()
    for i, j in duplicates(photographs.images, photographs.labels):
        shared[labels[i], labels[j]].append((i, j))
    lines = []
    for (label, other_label), pairs in shared.items():
        name, other_name = (photographs.class_names[each] for each in (label, other_label))
        file, other_file = (photographs.files[each].name for each in pairs[0])
        lines.append(
            f"{len(pairs)} of {labels.count(label)} photographs of {name} also appear in {other_name}:"
            f" {file} is {other_file} there"
        )
    return "\n".join(lines) or "no photograph appears in two classes"


def main() -> None:
    parser = command_parser("model.train.data.duplicates", __doc__)
    add_photograph_options(parser)
    add_threads_option(parser)
    options = parser.parse_args()
    set_threads(options)
    with named_errors("compare"):
        print(report(photographs_from(options)))


if __name__ == "__main__":
    main()
