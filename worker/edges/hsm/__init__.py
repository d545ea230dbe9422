"""The HSM edge: the only importer of a PKCS#11 module. `open_token` gives the two ports `Hsm` and `FleetKeys`."""

from worker.edges.hsm.config import HsmConfig, Observer, Pin, TokenState, Unobserved
from worker.edges.hsm.device import PinRefused
from worker.edges.hsm.fleet_objects import FleetKeyMissing
from worker.edges.hsm.probe import TokenLacks
from worker.edges.hsm.token import Token, open_token

__all__ = [
    "FleetKeyMissing",
    "HsmConfig",
    "Observer",
    "Pin",
    "PinRefused",
    "Token",
    "TokenLacks",
    "TokenState",
    "Unobserved",
    "open_token",
]
