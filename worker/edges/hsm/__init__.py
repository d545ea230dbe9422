"""The HSM edge: the only importer of PKCS#11 modules.

`open_token` gives the two ports `Hsm` and `FleetKeys`; `CustomerTokens` opens customers' tokens as `Keystore`s.
"""

from worker.edges.hsm.config import HsmConfig, Observer, Pin, TokenState, Unobserved
from worker.edges.hsm.customers import CustomerTokens, TokenCredential
from worker.edges.hsm.device import PinRefused
from worker.edges.hsm.fleet_objects import FleetKeyMissing
from worker.edges.hsm.probe import TokenLacks
from worker.edges.hsm.token import Token, open_token

__all__ = [
    "CustomerTokens",
    "FleetKeyMissing",
    "HsmConfig",
    "Observer",
    "Pin",
    "PinRefused",
    "Token",
    "TokenCredential",
    "TokenLacks",
    "TokenState",
    "Unobserved",
    "open_token",
]
