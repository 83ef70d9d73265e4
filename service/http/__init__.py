"""What the network sees: routes, middleware and the forms of answers."""
