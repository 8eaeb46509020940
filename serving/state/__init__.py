"""What the running service keeps between requests, apart from facts and log."""
