"""The runtime of long-lived workers: shutdown, dependencies, retries, the watchdog, and the classification of errors."""
