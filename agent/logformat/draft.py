"""A draft order: JSON that `warden log due` writes and `guardian order` has somebody sign.

`{"robot": …, "order": "delete", "segments": [{"stream", "segno", "seal"}, …], "reason": ""}`
"""

from typing import Final

DRAFT_FIELDS: Final = frozenset({"robot", "order", "segments", "reason"})
SEGMENT_FIELDS: Final = frozenset({"stream", "segno", "seal"})
MAX_ORDER_SEGMENTS: Final = 200
"""A `delete` entry of the ledger holds the order and the segments it names once more, in a line of at most
65,000 bytes: a segment takes at most 113 bytes of JSON, and 151 more inside the token. Some 230 would fit
beside a long reason."""
MAX_DRAFT_BYTES: Final = 65_536
MAX_ORDER_BYTES: Final = 32_768
"""Of the signed order; a robot takes no larger one."""
MAX_ORDER_REASON: Final = 500
"""Characters."""
