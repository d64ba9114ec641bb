"""What Tercet costs, measured beside a plain numpy step in one run; figures are in docs/benchmarks.md."""
