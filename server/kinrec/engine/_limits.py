"""What a request may ask for at most. The limits bound the work and the memory of one call."""

MAX_EVENTS = 2_000
MAX_LIMIT = 1_000
MAX_ID_BYTES = 512
MAX_EXCLUDED_ITEMS = 10_000
