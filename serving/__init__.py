"""What we answer: the decision service, the command line, and the wiring of all rooms."""
