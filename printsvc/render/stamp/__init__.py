"""Data and a compiled form to PDF in half a millisecond, with the picture that WeasyPrint draws.

Nothing here imports WeasyPrint or Jinja2: a site stamps with this, and the compiled form that the service made.
"""

from printsvc.render.stamp.compiled import CompiledForm, parse_compiled
from printsvc.render.stamp.stamper import Stamper
from printsvc.render.stamp.wayout import NeedsWeasyPrint

__all__ = ["CompiledForm", "NeedsWeasyPrint", "Stamper", "parse_compiled"]
