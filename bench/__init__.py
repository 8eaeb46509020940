"""What is claimed, and how to repeat it: one command each."""
