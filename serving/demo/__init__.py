"""A simulated shop with known truth: for `nbo demo`, and for tests that close the loop."""
