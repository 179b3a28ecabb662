"""Reward models learnt from labels, in torch."""
