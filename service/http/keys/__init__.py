"""Keys: who may use the service, and how much. `python -m service.http.keys NAME` makes a key."""
