"""Who goes next: admission, order, deadlines. Needs no torch."""
