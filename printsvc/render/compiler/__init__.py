"""From a template to a compiled form: WeasyPrint draws the form's variants once, and what differs becomes a slot."""

from printsvc.render.compiler.build import compile_form

__all__ = ["compile_form"]
