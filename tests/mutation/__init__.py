"""Mutation testing: small faults are planted one by one, and a test must see each of them."""
