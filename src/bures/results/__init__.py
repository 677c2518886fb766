"""What was measured: statistics, records, the schema and the run folder, and what finished runs say of each other; no torch."""
