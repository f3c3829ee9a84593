"""A gateway in a box: speaks the real protocol, signs both ways, and misbehaves on demand."""

from worker.mock_gateway.config import MockConfig, RealAccount, Switches, refuse_real_account
from worker.mock_gateway.ledger import Ledger, Truth, agrees
from worker.mock_gateway.order import Standing
from worker.mock_gateway.running import RunningMock, start
from worker.mock_gateway.scenarios import SCENARIOS, SUBMITTED, Scenario

__all__ = [
    "SCENARIOS",
    "SUBMITTED",
    "Ledger",
    "MockConfig",
    "RealAccount",
    "RunningMock",
    "Scenario",
    "Standing",
    "Switches",
    "Truth",
    "agrees",
    "refuse_real_account",
    "start",
]
