"""`printsvc-spooler doctor`: looks at everything that a site needs, and says what to do about what is not so.

`report` has the words (pure); `machine`, `service` and `printing` look, and change nothing.
"""

from spooler.doctor.report import Check, Status, as_document, as_text, is_well
from spooler.doctor.visit import visit

__all__ = ["Check", "Status", "as_document", "as_text", "is_well", "visit"]
