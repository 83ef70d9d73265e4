"""The suites, each a section of the report. A suite's fields are its plan; `run` measures it."""
