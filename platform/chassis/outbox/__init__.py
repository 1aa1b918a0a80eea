"""The outbox: writing rows in the transaction of the state change, and the relay that sends them."""
