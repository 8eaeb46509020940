"""What simulated worlds say: policies compared on the same luck, and experiments whose truth was planted."""
