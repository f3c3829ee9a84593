"""A deterministic simulation of the product: one seed, one history, replayed exactly.

Start with `world.py`. Run it with `python -m tests.simulation`; `docs/reliability.md` says what it
shows and what it cannot.
"""
