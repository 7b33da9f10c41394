"""Stripe's signature, with the official library as an independent witness."""

import hashlib
import hmac
import time

import pytest
import stripe
from hypothesis import given
from hypothesis import strategies as st

from billing.errors import InvalidSignature
from billing.signatures import TOLERANCE_SECONDS, verify_stripe

NOW = 1_793_714_400
SECRET = "whsec_current"
OLD_SECRET = "whsec_previous"
BODY = b'{"id":"evt_1","type":"payment_intent.succeeded"}'


def v1(body: bytes = BODY, secret: str = SECRET, stamp: str = str(NOW)) -> str:
    """The hex signature of a body."""
    return hmac.new(secret.encode(), stamp.encode() + b"." + body, hashlib.sha256).hexdigest()


def accepts(
    header: str | None, *, body: bytes = BODY, secrets: tuple[str, ...] = (SECRET,), now: float = NOW
) -> bool:
    """Whether our check passes."""
    try:
        verify_stripe(body, {} if header is None else {"stripe-signature": header}, secrets, now)
    except InvalidSignature:
        return False
    return True


def witness_accepts(header: str, *, body: bytes = BODY, secret: str = SECRET) -> bool:
    """Whether Stripe's own library passes it, apart from the time."""
    try:
        stripe.WebhookSignature.verify_header(body, header, secret)
    except stripe.SignatureVerificationError:
        return False
    return True


def test_thin_event_is_signed_as_any_other() -> None:
    """Stripe's library reads such a body with the same header and secret, and our check passes it."""
    body = b"""{"id": "evt_1", "object": "v2.core.event", "type": "v1.payment_intent.succeeded", "livemode": false,
        "created": "2026-11-30T20:00:00.000Z", "context": null, "related_object":
        {"id": "pi_1", "type": "payment_intent", "url": "/v1/payment_intents/pi_1"}}"""
    now = int(time.time())
    header = f"t={now},v1={v1(body, stamp=str(now))}"

    told = stripe.StripeClient("sk_test_1").parse_event_notification(body, header, SECRET)

    assert told.id == "evt_1"
    assert accepts(header, body=body, now=now)
    assert not accepts(header, body=body + b" ", now=now)


GOOD = v1()

ACCEPTED = {
    "as documented": f"t={NOW},v1={GOOD}",
    "signature first": f"v1={GOOD},t={NOW}",
    "with the scheme of test mode": f"t={NOW},v1={GOOD},v0={'0' * 64}",
    "wrong signature before the right one": f"t={NOW},v1={'0' * 64},v1={GOOD}",
    "right signature before a wrong one": f"t={NOW},v1={GOOD},v1={'0' * 64}",
    "with an unknown scheme": f"t={NOW},v2=whatever,v1={GOOD}",
}
REFUSED = {
    "missing": None,
    "empty": "",
    "only commas": ",,,",
    "garbage": "garbage",
    "no signature": f"t={NOW}",
    "no timestamp": f"v1={GOOD}",
    "empty signature": f"t={NOW},v1=",
    "empty timestamp": f"t=,v1={v1(stamp='')}",
    "another scheme": f"t={NOW},v0={GOOD}",
    "uppercase scheme": f"t={NOW},V1={GOOD}",
    "uppercase hex": f"t={NOW},v1={GOOD.upper()}",
    "truncated": f"t={NOW},v1={GOOD[:-1]}",
    "with more behind": f"t={NOW},v1={GOOD}0",
    "quoted": f't={NOW},v1="{GOOD}"',
    "zeros": f"t={NOW},v1={'0' * 64}",
    "by another secret": f"t={NOW},v1={v1(secret='whsec_other')}",
    "by an empty secret": f"t={NOW},v1={v1(secret='')}",
    "of another body": f"t={NOW},v1={v1(b'{}')}",
    "of another time": f"t={NOW},v1={v1(stamp=str(NOW - 1))}",
    "two timestamps": f"t={NOW},t={NOW},v1={GOOD}",
    "an old and a new timestamp": f"t={NOW - 9999},t={NOW},v1={GOOD}",
    "timestamp is no number": f"t=now,v1={v1(stamp='now')}",
    "negative timestamp": f"t=-{NOW},v1={v1(stamp=f'-{NOW}')}",
    "timestamp with a sign": f"t=+{NOW},v1={v1(stamp=f'+{NOW}')}",
    "timestamp with a fraction": f"t={NOW}.0,v1={v1(stamp=f'{NOW}.0')}",
    "timestamp with underscores": f"t=1_793_714_400,v1={GOOD}",
    "timestamp with other digits": f"t={str(NOW).translate(str.maketrans('0123456789', '٠١٢٣٤٥٦٧٨٩'))},v1={GOOD}",
    "timestamp in milliseconds": f"t={NOW}000,v1={v1(stamp=f'{NOW}000')}",
    "timestamp of the year zero": f"t=0,v1={v1(stamp='0')}",
    "timestamp without end": f"t={'9' * 5000},v1={GOOD}",
    "non-ASCII signature": f"t={NOW},v1={'é' * 64}",
    "signature beyond Latin-1": f"t={NOW},v1={'鍵' * 64}",
    "NUL in the signature": f"t={NOW},v1={GOOD}\x00",
    "only the secret": f"t={NOW},v1={SECRET}",
    "huge": f"t={NOW}" + ",v1=00" * 50_000,
}


@pytest.mark.parametrize("case", ACCEPTED)
def test_header_that_stripe_would_send_is_accepted_by_us_and_the_witness(case: str) -> None:
    """Both read the documented header alike."""
    assert accepts(ACCEPTED[case])
    assert witness_accepts(ACCEPTED[case])


@pytest.mark.parametrize("case", REFUSED)
def test_header_that_proves_nothing_is_refused(case: str) -> None:
    """Whatever is missing, doubled or mangled, the answer is InvalidSignature and never another error."""
    assert not accepts(REFUSED[case])


@given(st.text())
def test_header_of_any_text_is_refused(header: str) -> None:
    """No text crashes the check."""
    assert not accepts(header)


@given(st.text(max_size=200))
def test_header_of_the_witness_is_accepted(payload: str) -> None:
    """What Stripe's own library signs is genuine to us."""
    body = payload.encode()

    assert accepts(stripe.WebhookSignature.generate_signature_header(payload, SECRET, NOW), body=body)


@given(st.binary(max_size=200))
def test_body_that_is_no_text_is_verified_as_the_bytes_it_is(body: bytes) -> None:
    """The raw bytes are signed, so nothing is decoded on the way."""
    assert accepts(f"t={NOW},v1={v1(body)}", body=body)
    assert not accepts(f"t={NOW},v1={v1(body)}", body=body + b" ")


@given(st.sampled_from("0123456789abcdef"), st.integers(0, 63))
def test_signature_with_one_digit_changed_is_refused_by_both(digit: str, place: int) -> None:
    """The witness and we agree on every near miss."""
    changed = GOOD[:place] + digit + GOOD[place + 1 :]
    header = f"t={NOW},v1={changed}"

    assert accepts(header) == witness_accepts(header) == (changed == GOOD)


@pytest.mark.parametrize("offset", [-TOLERANCE_SECONDS, -1, 0, 1, TOLERANCE_SECONDS])
def test_timestamp_within_the_tolerance_is_accepted(offset: int) -> None:
    """Clocks differ, in both directions."""
    assert accepts(f"t={NOW},v1={GOOD}", now=NOW + offset)


@pytest.mark.parametrize("offset", [-86_400, -TOLERANCE_SECONDS - 1, TOLERANCE_SECONDS + 1, 86_400])
def test_timestamp_outside_the_tolerance_is_refused(offset: int) -> None:
    """Old deliveries cannot be replayed, and a stolen secret cannot sign ahead."""
    assert not accepts(f"t={NOW},v1={GOOD}", now=NOW + offset)


def test_timestamp_in_the_future_is_refused_though_the_witness_takes_it() -> None:
    """Stripe's library bounds the past only; we bound both."""
    soon = str(int(time.time()) + 86_400)
    header = f"t={soon},v1={v1(stamp=soon)}"

    assert stripe.WebhookSignature.verify_header(BODY, header, SECRET, TOLERANCE_SECONDS)
    assert not accepts(header, now=time.time())


def test_spaces_between_the_parts_do_not_matter() -> None:
    """A proxy may fold the header."""
    assert accepts(f" t={NOW} , v1={GOOD} ")


@pytest.mark.parametrize("secrets", [(SECRET, OLD_SECRET), (OLD_SECRET, SECRET)])
@pytest.mark.parametrize("signer", [SECRET, OLD_SECRET])
def test_each_of_two_secrets_is_valid_while_rotating(secrets: tuple[str, ...], signer: str) -> None:
    """Whichever of them signed, and in whichever order they are set."""
    assert accepts(f"t={NOW},v1={v1(secret=signer)}", secrets=secrets)


def test_signatures_with_both_secrets_are_valid_for_each_side_of_a_rotation() -> None:
    """Stripe signs with both; a receiver that knows only one is served."""
    header = f"t={NOW},v1={v1(secret=OLD_SECRET)},v1={v1()}"

    assert accepts(header, secrets=(SECRET,))
    assert accepts(header, secrets=(OLD_SECRET,))
    assert not accepts(header, secrets=("whsec_other",))


@pytest.mark.parametrize("secrets", [(), ("",), ("", "")])
def test_no_secret_refuses_even_what_an_empty_secret_signed(secrets: tuple[str, ...]) -> None:
    """An empty secret is known to everybody."""
    assert not accepts(f"t={NOW},v1={GOOD}", secrets=secrets)
    assert not accepts(f"t={NOW},v1={v1(secret='')}", secrets=secrets)
