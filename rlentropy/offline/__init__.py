"""Learning from a fixed dataset: robust and plain fitted iteration."""
