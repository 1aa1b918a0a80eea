"""Forks behave as processes of their own, and a way to run a program as one to its end."""
