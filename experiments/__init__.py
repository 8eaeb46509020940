"""What we conclude: assignment, metrics, statistics, off-policy evaluation and simulation."""
