"""What conftest.py keeps of a run for the tests in it; conftest.py itself is not to be imported."""

import pytest

#: The tests of all files that were given, as file::name, also those that `-m` leaves out.
COLLECTED = pytest.StashKey[set[str]]()
