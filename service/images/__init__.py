"""From a request's body to a valid order, and from pixels to a file."""
