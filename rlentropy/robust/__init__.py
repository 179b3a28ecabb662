"""Robust and risk-sensitive agents: dynamic programming, exact and sampled policy gradients."""
