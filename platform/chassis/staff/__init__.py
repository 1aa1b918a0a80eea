"""What a service shows to its staff, and what they may decide, over HTTP at `/staff/`. The gateway has no route to it."""
