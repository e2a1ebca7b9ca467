"""What ``make gpu`` runs: tests, benchmarks and the evidence table, in parts (docs/gpu.md)."""
