"""From data to a page: templates, fonts, QR, the worker pool."""
