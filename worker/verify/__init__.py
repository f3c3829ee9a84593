"""`reconciler verify`: why the signature of a captured message does not verify.

Nothing is sent, nothing is stored and nothing is logged: what is read is shown to whoever asked,
and the verdict is that of `worker.signature.verify`.
"""

from worker.verify.capture import BadCapture, read_capture, with_parts
from worker.verify.explain import Report, examine
from worker.verify.message import Capture, Case, Kind, KnownKey

__all__ = [
    "BadCapture",
    "Capture",
    "Case",
    "Kind",
    "KnownKey",
    "Report",
    "examine",
    "read_capture",
    "with_parts",
]
