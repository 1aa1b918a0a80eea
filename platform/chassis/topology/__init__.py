"""Topics, and the AsyncAPI document that describes them."""
