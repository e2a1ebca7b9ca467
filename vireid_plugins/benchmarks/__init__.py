"""What the benchmark command measures, one topic a file."""
