"""Duplicates: photographs that stand under two labels.

    python -m model.train.duplicates --data PHOTOGRAPHS

What stands in two classes teaches the DiT to draw one for the other, and no judge can tell them apart.
Nothing is taken away: which of the labels is right, only a person can say.
"""

from __future__ import annotations

from collections import defaultdict

import torch
import torch.nn.functional as F
from torch import Tensor

from model.train.data.photographs import Photographs, load_photographs
from model.train.evaluation.similarity import distances
from model.train.options import command_parser, data_options

LIMIT = 3.0
"""Levels of 255, root mean square: the same photograph saved twice is nearer, the next frame is not."""

COARSE_SIDE = 16
CHUNK = 1024


def duplicates(images: Tensor, labels: Tensor, limit: float = LIMIT) -> list[tuple[int, int]]:
    """Pairs (i, j) of uint8 (N, 3, S, S): the nearest to i of other labels than its own is j, within
    the limit.

    The nearest is found among pictures of a few pixels, whose distance is never above the whole ones'.
    """
    coarse = F.avg_pool2d(images.float(), max(1, images.shape[-1] // COARSE_SIDE)).double()
    found = []
    for start in range(0, len(images), CHUNK):
        here = slice(start, start + CHUNK)
        away = distances(coarse[here], coarse)
        away[labels[here, None] == labels] = torch.inf
        least, others = away.min(1)
        for i in (least <= limit).nonzero().flatten().tolist():
            j = int(others[i])
            if float(distances(images[start + i, None], images[j, None])) <= limit:
                found.append((start + i, j))
    return found


def report(photographs: Photographs) -> str:
    """One line for each two classes that share photographs."""
    shared: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
    labels = photographs.labels.tolist()
    for i, j in duplicates(photographs.images, photographs.labels):
        shared[labels[i], labels[j]].append((i, j))
    lines = []
    for (label, other), pairs in shared.items():
        name, of_other = photographs.class_names[label], photographs.class_names[other]
        first, same = (photographs.files[each].name for each in pairs[0])
        lines.append(
            f"{len(pairs)} of {labels.count(label)} photographs of {name} also stand in {of_other}:"
            f" {first} is {same} there"
        )
    return "\n".join(lines) or "no photograph stands under two labels"


def main() -> None:
    parser = command_parser(__doc__)
    data_options(parser)
    options = parser.parse_args()
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    print(report(load_photographs(options.data, options.image_size, options.leave_out)))


if __name__ == "__main__":
    main()
