"""The consumer: the loop, retries, the inbox, and the units of work that handlers run in."""
