"""The thread that owns the model, and the watchdog that watches it."""
