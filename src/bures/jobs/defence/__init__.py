"""`bures defend`: many attacks on several models, side by side."""
