"""The measurements of `make bench`, each with its reference in the same run."""
