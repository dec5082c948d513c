"""Training: where the tokens come from."""
