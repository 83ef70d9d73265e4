"""The command line: `dit`, one module per command."""
