"""Statistics of experiments: from cells to estimates, intervals, tests and a verdict."""
