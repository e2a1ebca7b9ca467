"""The kinds of pictures that people draw of trained models and of runs."""
