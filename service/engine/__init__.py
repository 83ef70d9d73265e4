"""The thread that owns the model, and what watches over it."""
