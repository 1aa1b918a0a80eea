"""`make service NAME=stock`: writes a new service from the templates in this folder, complete and working."""
