"""Evaluation: how good a model's pictures are, compared with photographs."""
