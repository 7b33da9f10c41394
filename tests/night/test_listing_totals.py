"""The provider's own totals, beside which a list can be proved complete."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from pydantic import SecretStr

from billing.errors import ProviderRefused, ProviderUnavailable
from billing.figures import Totals
from billing.settings import Settings
from billing.vapi_totals import read_totals
from calltally.sandbox.faults import Fault, html_fault, text_fault
from calltally.sandbox.server import RunningSandbox
from calltally.sandbox.vapi import vapi_fault

from .listing import DAY, NEXT_DAY, ask, place, read


def totals(configured: Settings, start: datetime = DAY, end: datetime = NEXT_DAY, **options: Any) -> Totals | None:
    """What the provider says about a window."""
    found = ask(configured, lambda client: read_totals(client, start, end), **options)
    assert found is None or isinstance(found, Totals)
    return found


def test_totals_equal_the_list(sandbox: RunningSandbox, settings: Settings) -> None:
    """Number and cost of exactly the calls that the list shows for the window, to the micro."""
    place(sandbox, 300)
    place(sandbox, 10, start=NEXT_DAY, end=NEXT_DAY + timedelta(days=1))
    frame = read(settings)

    assert totals(settings) == Totals(calls=300, cost_micros=int(frame["cost_micros"].sum()))


def test_totals_of_a_window_without_calls_are_zero(sandbox: RunningSandbox, settings: Settings) -> None:
    """Nothing is an answer, too."""
    assert totals(settings) == Totals(calls=0, cost_micros=0)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ('[{"result": [{"calls": 3, "cost": 0.1234}]}]', Totals(3, 123_400)),
        ('[{"result": [{"calls": "3", "cost": "0.1234"}]}]', Totals(3, 123_400)),
        ('[{"result": [{"calls": 3, "cost": null}]}]', Totals(3, 0)),
        (
            '[{"result": [{"calls": 9007199254740993, "cost": 9007199254.740993}]}]',
            Totals(2**53 + 1, 9007199254740993),
        ),
        (
            '[{"result": [{"date": "a", "calls": 1, "cost": 1}, {"date": "b", "calls": 2, "cost": 2}]}]',
            Totals(3, 3_000_000),
        ),
        ('[{"result": [{"calls": 1.5, "cost": 1}]}]', None),
        ('[{"result": [{"calls": "NaN", "cost": 1}]}]', None),
        ('[{"result": [{"calls": 1, "cost": "Infinity"}]}]', None),
        ('[{"result": [{"calls": -1, "cost": 1}]}]', None),
        ('[{"result": [{"count": 3}]}]', None),
        ('[{"result": null}]', None),
        ("[]", None),
        ('{"results": []}', None),
    ],
)
def test_totals_are_exact_or_absent(
    sandbox: RunningSandbox, settings: Settings, answer: str, expected: Totals | None
) -> None:
    """Numbers may come in quotes or in several rows; whatever else is no total."""
    sandbox.vapi.faults.add(text_fault(200, answer))

    assert totals(settings) == expected


@pytest.mark.parametrize("status", [400, 403, 404])
def test_refused_totals_are_absent(
    sandbox: RunningSandbox, settings: Settings, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    """A key without that right leaves the list unproven; the log says why."""
    sandbox.vapi.faults.add(vapi_fault(status, "no"))

    assert totals(settings) is None
    assert f"({status})" in caplog.text


@pytest.mark.parametrize(
    "fault", [vapi_fault(500, "Internal server error"), html_fault(200), vapi_fault(429, "slow")]
)
def test_totals_are_asked_for_again(sandbox: RunningSandbox, settings: Settings, fault: Fault) -> None:
    """Trouble that passes is waited for."""
    place(sandbox, 3)
    sandbox.vapi.faults.add(fault, times=2)

    assert totals(settings) is not None


def test_totals_that_never_come_are_an_outage(sandbox: RunningSandbox, settings: Settings) -> None:
    """A bounded number of tries."""
    sandbox.vapi.faults.add(vapi_fault(500, "Internal server error"), times=50)

    with pytest.raises(ProviderUnavailable):
        totals(settings)


def test_totals_with_a_wrong_key_are_refused(settings: Settings) -> None:
    """That would be wrong for the list as well."""
    wrong = settings.model_copy(update={"vapi_api_key": SecretStr("the-public-one")})

    with pytest.raises(ProviderRefused, match="VAPI_API_KEY"):
        totals(wrong)
