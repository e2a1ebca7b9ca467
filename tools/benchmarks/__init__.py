"""What ``tools/bench.py`` measures, one topic a file."""
