"""What we know: customers, offers, events, and the features computed from them."""
