"""Learning between trainings: what impressions and outcomes say about each offer since the release was fitted."""
