"""printsvc-spooler: the agent at a site; takes print jobs from the service and proves what became paper."""

__version__ = "0.1.0"
