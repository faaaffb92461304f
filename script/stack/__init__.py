"""A whole small country on one machine: the service, and sites with an agent, queues and printers each.

For the demonstration and for tests of faults: every part is a real process and can be killed and started again.

::

    with Stack(root, [SitePlan("HN-HBT-01", "Trạm Y tế …")]) as stack:
        answers = stack.post_doses(lines)                # NDJSON lines, an answer for each
        stack.wait_for_papers(10, timeout_s=60)
        stack.service.kill(); stack.service.start()      # the same port, the same data
        stack.sites["HN-HBT-01"].agent.kill()
        stack.lab.cupsd.kill(); stack.lab.cupsd.start()
        papers = stack.read_back()                       # what really came out, decoded and verified
"""

from stack.api import Api, ApiError
from stack.papers import Paper, read_paper
from stack.stack import Agent, Service, SiteParts, SitePlan, Stack

__all__ = ["Agent", "Api", "ApiError", "Paper", "Service", "SiteParts", "SitePlan", "Stack", "read_paper"]
