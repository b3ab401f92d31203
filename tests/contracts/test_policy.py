"""The one contract, kept by every policy."""

from firstlight import core
from firstlight.governance import OwnerPolicy
from firstlight.testing.policy import PolicyContract


class TestOwnerPolicy(PolicyContract):
    def make(self) -> core.Policy:
        return OwnerPolicy()
