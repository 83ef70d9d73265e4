"""What a file carries beside its pixels: where it is, and the file without it. Nothing is decoded."""
