"""Starts the programs of the system as forks of a process that has loaded their libraries, which is most of a start."""
