"""Results of benchmarks: tables, plots, the report."""
