"""What may be asked for, and the file that comes out."""
