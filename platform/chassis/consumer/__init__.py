"""The consumer: the loop, retries, the inbox, and the units of work in which handlers run."""
