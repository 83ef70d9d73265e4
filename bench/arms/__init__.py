"""The arms measured without HTTP, each in a worker process of its own."""
