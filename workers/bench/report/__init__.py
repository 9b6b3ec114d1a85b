"""All benchmarks together: the suite, its results, the report, comparison of two runs, planning from them."""
