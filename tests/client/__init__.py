"""The client's distribution: `dit_client` and the command line `dit`."""
