"""The nearest items of each query: exact, approximate, and as lists."""
