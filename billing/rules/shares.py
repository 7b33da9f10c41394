"""When a share is surely too low."""

from decimal import Decimal

from billing.figures import Reliability


def surely_below(share: Reliability, threshold: Decimal) -> bool:
    """Whether even the upper end of the 95 % interval is below: one bad case of many is no alarm, one of one is."""
    return share.interval is not None and share.interval[1] < threshold
