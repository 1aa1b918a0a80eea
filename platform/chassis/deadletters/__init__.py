"""Dead letters: their record, reading them, and redriving them."""
