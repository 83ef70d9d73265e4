"""Load on a server, and the servers themselves."""
