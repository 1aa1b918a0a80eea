"""`make service NAME=stock`: writes a complete, working service from the templates in this folder."""
