"""What scripts/deploy, scripts/destroy and scripts/cost know of stacks and environments."""
