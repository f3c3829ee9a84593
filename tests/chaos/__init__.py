"""Real processes under real faults: killed, frozen, cut off, out of memory, out of power.

`make chaos SECONDS=120` runs the receiver, two workers, a server with an append-only file and the
mock gateway, does all that to them, and holds every payment against the gateway's ledger.
"""
