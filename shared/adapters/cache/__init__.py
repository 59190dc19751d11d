"""Redis, as the functions use it: never waited for long, never needed, its failures never more than a miss."""
