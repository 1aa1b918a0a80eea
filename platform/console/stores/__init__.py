"""What the console keeps in memory, bounded in bytes: spans, log lines, and a summary of each story."""
