"""The books in plain Python: what SQL must decide, written from the rules and not from the SQL."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Price:
    """The terms of a minute."""

    per_minute_micros: int = 700_000
    increment: int = 1
    minimum: int = 0
    free: int = 0

    def cost(self, duration_ms: int) -> int:
        """What a call of that length costs, rounded half up to whole micros."""
        beyond_ms = duration_ms - self.free * 1000
        if beyond_ms <= 0:
            return 0
        increments = -(-beyond_ms // (self.increment * 1000))
        seconds = max(self.minimum, increments * self.increment)
        return (2 * seconds * self.per_minute_micros + 60) // 120


@dataclass
class Charge:
    """One thing that an organization pays for."""

    key: str
    amount: int
    at: int
    state: str
    answer: dict[str, Any]


@dataclass
class Call:
    """A recorded call with the price that it was charged at."""

    price: Price
    charges: list[Charge]


@dataclass
class Payment:
    """What was paid, and what each refund and dispute took of it, less what it gave back."""

    credited: int
    sources: dict[str, int] = field(default_factory=dict)

    @property
    def taken(self) -> int:
        """How much of it Stripe has."""
        return min(self.credited, sum(max(0, net) for net in self.sources.values()))


@dataclass
class Wallet:
    """One organization's money."""

    limit: int = 5_000_000
    balance: int = 0
    overrun_allowed: bool = False
    price: Price = field(default_factory=Price)
    charges: dict[str, Charge] = field(default_factory=dict)
    calls: dict[str, Call] = field(default_factory=dict)
    credits: dict[str, tuple[int, str, dict[str, Any]]] = field(default_factory=dict)
    payments: dict[str, Payment] = field(default_factory=dict)

    @property
    def room(self) -> int:
        """How much more usage fits."""
        return self.balance + self.limit

    @property
    def outstanding(self) -> int:
        """What is owed."""
        return sum(charge.amount for charge in self.charges.values() if charge.state == "outstanding")

    def charge(self, key: str, amount: int, at: int) -> Charge:
        """Decide on a new charge: free, settled or outstanding."""
        before = self.balance
        accepted = amount <= self.room or amount <= 0 or self.overrun_allowed
        if accepted:
            self.balance -= amount
        state = "outstanding" if not accepted else "settled" if amount else "free"
        answer = {
            "success": accepted,
            "duplicate": False,
            "balance_before_micros": before,
            "balance_after_micros": self.balance,
            "debt_limit_micros": self.limit,
            "remaining_debt_capacity_micros": max(0, self.limit + min(self.balance, 0)),
            "needs_recharge": self.balance < 0,
            "reason": None if accepted else "debt_limit_exceeded",
        }
        self.charges[key] = Charge(key, amount, at, state, answer)
        return self.charges[key]

    def settle(self) -> int:
        """Pay what is owed, oldest first, as far as the room reaches."""
        settled = 0
        for charge in sorted(self.charges.values(), key=lambda charge: (charge.at, charge.key)):
            if charge.state != "outstanding":
                continue
            if charge.amount > self.room:
                break
            charge.state = "settled"
            self.balance -= charge.amount
            settled += charge.amount
        return settled

    def credit(self, key: str, amount: int, kind: str) -> dict[str, Any]:
        """Put money in, once."""
        before = self.balance
        self.balance += amount
        settled = self.settle()
        answer = {
            "success": True,
            "duplicate": False,
            "balance_before_micros": before,
            "balance_after_micros": self.balance,
            "settled_outstanding_micros": settled,
        }
        self.credits[key] = (amount, kind, answer)
        if kind == "topup":
            self.payments[key.removeprefix("topup:")] = Payment(amount)
        return answer

    def debit(self, amount: int) -> dict[str, Any]:
        """Take money out by hand, past any limit."""
        before, self.balance = self.balance, self.balance - amount
        return {
            "success": True,
            "duplicate": False,
            "balance_before_micros": before,
            "balance_after_micros": self.balance,
        }

    def move(self, payment_id: str, source_id: str, amount: int) -> None:
        """Let Stripe take money of a payment back (negative), past any limit, or give it back."""
        payment = self.payments[payment_id]
        before = payment.taken
        payment.sources[source_id] = payment.sources.get(source_id, 0) - amount
        self.balance += before - payment.taken
        if payment.taken < before:
            self.settle()

    def record(self, call_id: str, duration_ms: int, at: int) -> Charge:
        """Charge a call at the price in force."""
        charge = self.charge(f"call:{call_id}", self.price.cost(duration_ms), at)
        self.calls[call_id] = Call(self.price, [charge])
        return charge

    def correct(self, call_id: str, duration_ms: int, at: int) -> int:
        """Make a call cost what its new length costs; the difference. A corrected debt keeps its place in line."""
        call = self.calls[call_id]
        old = sum(charge.amount for charge in call.charges if charge.state != "cancelled")
        new = call.price.cost(duration_ms)
        if new == old:
            return 0
        owed = [charge for charge in call.charges if charge.state == "outstanding"]
        for charge in owed:
            charge.state = "cancelled"
        missing = new - sum(charge.amount for charge in call.charges if charge.state != "cancelled")
        if missing:
            key = f"call:{call_id}:correction:{len(call.charges)}"
            since = min((charge.at for charge in owed), default=at)
            call.charges.append(self.charge(key, missing, since if missing > 0 else at))
        self.settle()
        return new - old
