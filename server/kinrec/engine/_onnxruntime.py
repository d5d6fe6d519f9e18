"""onnxruntime, which is to keep what it sees to itself.

Unless told otherwise when it is imported, it writes an identifier of the device into the home
directory, warns where it cannot, and sends what it measures.
"""

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime as ort

__all__ = ["ort"]
