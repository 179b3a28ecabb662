"""Networks and what every neural agent shares: spaces, losses, rollouts."""
