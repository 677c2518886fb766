"""A model, its prompts as tokens, its residual stream, and what intervenes there."""
