"""Events: what they are, how they travel, who reacts to them."""
