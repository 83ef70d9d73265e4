"""The servers compared with ours: what a user would write around diffusers' pipeline."""
