"""The benchmark: this service against what a user would pick instead, on one machine, in one run."""
