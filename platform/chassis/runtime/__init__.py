"""What a long-lived worker has around its loop: shutdown, waiting, watchdog, and whose fault an error is."""
