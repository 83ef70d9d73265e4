"""Machine: requests in any order and all their ends, drawn by hypothesis."""
