"""What was measured, with its intervals, and what finished runs say of each other; no torch."""
