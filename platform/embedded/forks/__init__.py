"""Starts Python programs as forks of a process that has loaded their libraries: in half of the time and memory (ADR 0068)."""
