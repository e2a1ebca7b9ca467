"""Where and by what an image is taken: scenes, cameras, and their domains."""
