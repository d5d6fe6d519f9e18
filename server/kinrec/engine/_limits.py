"""What a request may ask for at most. The limits bound the work and the memory of one call."""

MAX_EVENTS = 2_000
MAX_LIMIT = 1_000
MAX_ID_BYTES = 512
MAX_LISTED_ITEMS = 10_000
MAX_SEARCH_EFFORT = 100
MAX_SHARED_ITEMS = 100
MAX_REQUESTS = 256
MAX_CONDITIONS = 20
MAX_CONDITION_VALUES = 1_000
