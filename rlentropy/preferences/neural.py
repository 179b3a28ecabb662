"""Neural policies on segments, in torch."""
