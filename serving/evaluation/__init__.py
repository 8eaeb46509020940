"""What another policy or release would have done, decision by decision of the log, and what that would have earned."""
