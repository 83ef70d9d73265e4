"""Suites: one table of the report each. A suite's fields are its plan; `run` measures it."""
