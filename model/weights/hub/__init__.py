"""The hub: which files of a repository make up a model, and downloading them."""
