"""`bures probe`: detectors of harmful prompts, read off activations."""
