"""Events that were not applied: for how long that may be so, and what a person does about them, by reason."""

from datetime import timedelta

PARKED_LIMIT = timedelta(hours=1)
"""A refund may come ahead of its payment, and a route or a customer may be made known just now; both end by
themselves within minutes."""

NEXT_STEPS = {
    "dead": "mend the cause, then: `calltally events replay {id}`",
    "delayed": "none: it comes back by itself",
    "unknown_organization": "`calltally route add` (`calltally call held` has the whole command of each call), or for"
    " a payment `calltally payments assign pi_… ORG --reason …`: it goes on by itself."
    " If it is nobody's here: `calltally events dismiss {id} --reason …`",
    "payment_not_credited": "none if its payment is still on the way: it goes on by itself. Else"
    " `calltally payments backfill` fetches the payment, or credit it: `calltally wallet credit --key topup:…`. If it"
    " was skipped as no top-up: `calltally events dismiss {id} --reason …`",
    "refunds_not_told": "none if Stripe tells of the refund itself: it goes on by itself. Else see at Stripe which it"
    " is, and book it: `calltally payments reverse pi_… re_… AMOUNT`; a refund that is still pending may wait",
    "customer_mismatch": "see at Stripe whose it is: `calltally payments assign pi_… ORG --reason …`",
    "currency_mismatch": "a payment: `calltally wallet credit --key topup:pi_…` in the wallet's currency, or"
    " pay it back and `calltally events dismiss {id} --reason …`. A refund or dispute: `calltally payments reverse`"
    " with the amount in the payment's currency; it goes on by itself",
    "cannot_ask_stripe": "set `STRIPE_API_KEY` to a key that may read what was sold (`calltally doctor` tries it),"
    " then: `calltally events replay {id}`. Or, if it holds no tax, say whose it is: `calltally payments assign pi_…"
    " ORG --reason …`. It goes on by itself when its Checkout Session is told",
    "unnamed_payment": "its customer is linked, and it names no organization. If it is a top-up: `calltally payments"
    " assign pi_… ORG --reason …`, or for all such payments `STRIPE_CREDIT_LINKED_CUSTOMERS=true`. Else:"
    " `calltally events dismiss {id} --reason …`",
    "unproven_payer": "its payer may have written whose it is: a payment link, or a guest. See at Stripe who paid,"
    " then: `calltally payments assign pi_… ORG --reason …`, or pay it back and dismiss it:"
    " `calltally events dismiss {id} --reason …`",
    "skipped_money": "it has no meaning here, but names one of your organizations, and its money is not booked. If it"
    " is a top-up: `calltally wallet credit --key topup:pi_…` with its payment's id; then it goes on. If that"
    " payment was skipped (`invoice`): `calltally payments assign pi_… ORG --reason …`, and replay its event. Else:"
    " `calltally events dismiss {id} --reason …`",
    "livemode_mismatch": "a test of yours: `calltally events dismiss {id} --reason …`. If not, mend `STRIPE_LIVEMODE`"
    " (`calltally doctor` compares it with Stripe), then: `calltally events replay {id}`",
    "connected_account": "the money is in a connected account, not yours: `calltally events dismiss {id} --reason …`,"
    " and let Stripe's endpoint listen to your own account alone",
    "no_price": "in SQL `set_price(…)`, then: `calltally events replay {id}`",
}
"""By reason, or by state."""


def next_step(state: str, reason: str, event_id: int) -> str:
    """What a person does about an event in that state, with commands in `backticks`."""
    step = NEXT_STEPS.get(reason.partition(":")[0]) or NEXT_STEPS.get(state) or "see the reason, then replay it"
    return step.format(id=event_id)
