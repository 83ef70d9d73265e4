"""Results, and the page made from them."""
