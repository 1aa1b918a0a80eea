"""What `make bench` measures, each beside its reference in the same run."""
