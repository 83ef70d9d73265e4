"""The photographs that pictures are measured against."""

from __future__ import annotations

import pytest
import torch

from model.train.evaluation.measure import balanced


def test_a_balanced_sample_repeats_no_photograph() -> None:
    labels = torch.tensor([0] * 5 + [1] * 3)
    assert balanced(labels, 2, per_class=4).tolist() == [0, 1, 3, 4, 5, 6, 7]
    with pytest.raises(ValueError, match="class 2 has 0 photographs"):
        balanced(labels, 3, per_class=4)
