"""The console: the running system in a browser, in development only. `manage.py console`; docs/console.md describes it.

It reads what the processes send and offer (spans, log files, topics, metrics, endpoints for staff), keeps the last minutes in
memory, and has no database. No service imports it. See docs/adr/0057-console.md.
"""
