"""Names for content: the same value has the same 16 hex digits on every machine.

In: values that JSON can hold. Out: the head of their SHA-256.
"""

from __future__ import annotations

import hashlib
import json


def digest_of(value: object) -> str:
    """16 hex digits over the value; the order of keys does not matter."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
    return hashlib.sha256(canonical).hexdigest()[:16]
