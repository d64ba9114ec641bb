"""`python -m benchmarks`: all that there is to measure."""

from benchmarks.step import main

main()
