"""What the worker does under stress: a gateway that hangs, and one that comes back after an outage.

Real processes, a real Valkey, real time. `python -m tests.stress black-hole` and `... outage`.
"""
