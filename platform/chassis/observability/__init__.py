"""What a service tells about itself: logs, traces and metrics, all of which say which request they belong to."""
