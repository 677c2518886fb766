"""One page a kind of result."""
