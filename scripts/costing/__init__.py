"""What an environment costs asleep (scripts/cost idle) and at work (scripts/cost at)."""
