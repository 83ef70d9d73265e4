"""Wire: the parts of the API's format: JSON members, problems, server-sent events."""
