"""The compiled loops: the only rooms that know numba."""
