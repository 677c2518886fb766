"""What changes a model for good, and only ever so that it refuses more: the organism."""
