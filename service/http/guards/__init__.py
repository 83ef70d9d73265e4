"""Guards: what a request's head must be like before a route sees the request."""
