"""What we learn: datasets, models, evaluation, registry and releases."""
