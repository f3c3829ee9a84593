"""Seeded mutations of genuine messages against the real receiver, and who is to judge the answers.

`python -m tests.fuzz`; every input follows from its seed and its number.
"""
