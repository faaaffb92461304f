"""From a template to a compiled form: WeasyPrint draws the form's variants once, and what differs becomes a slot."""

from printsvc.render.compiler.build import compile_form
from printsvc.render.compiler.store import digest_of_sources, load_compiled

__all__ = ["compile_form", "digest_of_sources", "load_compiled"]
