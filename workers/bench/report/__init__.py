"""The suite of all benchmarks, its results, the report, the comparison of two runs, and capacity planning."""
