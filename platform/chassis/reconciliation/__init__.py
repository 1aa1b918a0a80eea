"""Comparing what services know of each other, and republishing what is missing."""
