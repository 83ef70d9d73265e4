"""Dataset: many images of many classes into a folder, in as many runs as it takes."""
