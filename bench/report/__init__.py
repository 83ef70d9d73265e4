"""Results, and the page and plot made from them."""
