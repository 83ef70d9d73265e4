"""The check of a GPU host: what no other machine can show, in steps of under ten minutes."""
