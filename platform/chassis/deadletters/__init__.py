"""Dead letters: writing, reading and redriving them."""
