"""The names of our keys in Redis. `{id}` is `<client-id>:<paymentRequestId>`."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Keys:
    """Names by prefix; a client id holds no colon, so every name can be read back."""

    prefix: str = "reconciler"

    def _name(self, name: str) -> str:
        return f"{self.prefix}:v1:{name}"

    # One per payment

    def payment(self, key: str) -> str:
        return self._name(f"payment:{key}")

    def timeline(self, key: str) -> str:
        return self._name(f"timeline:{key}")

    def inbox(self, key: str) -> str:
        return self._name(f"inbox:{key}")

    def heard(self, key: str) -> str:
        """Digests of the notifications received, so that a resend is known as one."""
        return self._name(f"heard:{key}")

    def delivery(self, lane: str) -> str:
        """What is to be sent one after the other, see `worker.deliveries`."""
        return self._name(f"delivery:{lane}")

    def handled(self, group: str, name: str) -> str:
        """Which events of a payment, or of a rejected command, a group of consumers has handled."""
        return self._name(f"handled:{group}:{name}")

    def job(self, key: str) -> str:
        """The id of a payment's one arq job."""
        return f"{self.prefix}:{key}"

    # One per account

    def limits(self, client_id: str) -> str:
        """What all processes know of its line to the gateway: breaker, pace, tokens."""
        return self._name(f"limits:{client_id}")

    def waiting(self, client_id: str) -> str:
        """Payments whose calls may not leave yet, in line; below 0: called, and when."""
        return self._name(f"waiting:{client_id}")

    # One for all

    @property
    def open(self) -> str:
        return self._name("open")

    @property
    def parked(self) -> str:
        return self._name("parked")

    @property
    def brake(self) -> str:
        """Payments in a row that were never found, by client id."""
        return self._name("brake")

    @property
    def stuck(self) -> str:
        """Payments that should have ended long ago; the score is when to tell of one again."""
        return self._name("stuck")

    @property
    def swept(self) -> str:
        """When a sweep last came round: Redis time."""
        return self._name("swept")

    @property
    def commands(self) -> str:
        return self._name("commands")

    @property
    def dead(self) -> str:
        return self._name("commands:dead")

    @property
    def outcomes(self) -> str:
        return self._name("outcomes")

    @property
    def quarantine(self) -> str:
        return self._name("quarantine")

    @property
    def imports(self) -> str:
        """How far lists of payments are written as commands: lines done, by digest of the list."""
        return self._name("imports")

    @property
    def deliveries(self) -> str:
        """Lanes with something to send; the score is when to try next."""
        return self._name("deliveries")

    @property
    def dead_deliveries(self) -> str:
        return self._name("deliveries:dead")

    @property
    def canary(self) -> str:
        """When a worker first wrote here: gone or another, all else is too."""
        return self._name("canary")

    @property
    def queue(self) -> str:
        """arq's queue."""
        return f"{self.prefix}:queue"
