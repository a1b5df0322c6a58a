"""How a worker's HTTP answers say which worker holds a user's partition."""

NOT_THE_OWNER = 421
"""HTTP status of a worker that does not hold the partition and does not know who does."""
FORWARDED = "Headwater-Forwarded"
"""Header of a request that came through another worker: it goes no further."""
OWNER = "Headwater-Owner"
"""Header of an answer that came through another worker: address of the one that gave it."""
