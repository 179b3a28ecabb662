"""Maximum-entropy exploration: one module per algorithm, each with `Config` and `run`."""
