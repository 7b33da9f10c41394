"""One night as data: which windows are read, and what follows from the comparison."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from uuid import UUID

import pandas as pd
import pytest

from billing.errors import PermanentError
from billing.figures import Completeness, Recovered, Totals, Window
from billing.night import Comparison, ListTolerance, findings, money, prove_complete, recovered_calls
from billing.night_windows import days, listed_parts, night_window, pieces, spans, still_kept
from billing.reconcile import SETTLING
from billing.repair import Corrected, LostValue
from billing.vapi import MICROSECOND, UnreadableRow

from .listed import ACME, AS_OF, CREATED, GLOBEX, differences, known, listed, provider_frame, route

SCHEDULED = datetime(2026, 11, 4, 3, tzinfo=UTC)
DAY = timedelta(days=1)
FORTNIGHT = timedelta(days=14)
LATER = SCHEDULED + FORTNIGHT
"""So late that every window here is over."""
WINDOW = night_window(AS_OF - DAY, AS_OF, AS_OF, now=LATER)


def comparison(
    found: pd.DataFrame, completeness: Sequence[Completeness] = (), *, stops_billing: bool = True
) -> Comparison:
    """What follows from differences."""
    return Comparison(
        found,
        window=WINDOW,
        as_of=AS_OF,
        reported=set(),
        names={ACME: "Acme", GLOBEX: "Globex"},
        completeness=completeness,
        stops_billing=stops_billing,
    )


def test_window_is_the_day_before_the_scheduled_time() -> None:
    """However late the run begins; it leaves out what may still move, and the next night begins there."""
    window = night_window(None, None, SCHEDULED, now=LATER)
    next_window = night_window(None, None, SCHEDULED + DAY, now=LATER)

    assert (window.start, window.end) == (SCHEDULED - SETTLING - DAY, SCHEDULED - SETTLING)
    assert window.listed_from == window.start - timedelta(hours=72)
    assert next_window.start == window.end


def test_window_of_a_person_is_taken_in_any_zone() -> None:
    """Times with an offset mean the same moments in UTC, on whole milliseconds."""
    tokyo = timezone(timedelta(hours=9))
    window = night_window(datetime(2026, 11, 3, 9, tzinfo=tokyo), SCHEDULED + 999 * MICROSECOND, SCHEDULED, now=LATER)

    assert (window.start, window.end) == (datetime(2026, 11, 3, tzinfo=UTC), SCHEDULED)
    assert window.start.tzinfo is UTC


def test_window_of_a_person_without_a_zone_is_in_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prefect's form may leave the zone out; where the process runs changes nothing, as at the command line."""
    naive = SCHEDULED.replace(tzinfo=None)
    try:
        with monkeypatch.context() as abroad:
            abroad.setenv("TZ", "Asia/Tokyo")
            time.tzset()
            window = night_window(naive - DAY, naive, SCHEDULED, now=LATER)
    finally:
        time.tzset()

    assert (window.start, window.end) == (SCHEDULED - DAY, SCHEDULED)


@pytest.mark.parametrize("length", [timedelta(0), timedelta(microseconds=10), -DAY])
def test_empty_window_is_refused(length: timedelta) -> None:
    """The message shows both ends."""
    with pytest.raises(PermanentError, match="the window is empty: 2026-11-04 03:00"):
        night_window(SCHEDULED, SCHEDULED + length, SCHEDULED, now=LATER)


@pytest.mark.parametrize("window_to", [SCHEDULED + 300 * DAY, SCHEDULED, None])
def test_window_ends_where_calls_are_settled_whatever_was_asked_for(window_to: datetime | None) -> None:
    """Nobody can look at the future; what is left of the window is compared, and nothing is refused."""
    window = night_window(SCHEDULED - DAY, window_to, SCHEDULED + DAY, now=SCHEDULED)

    assert (window.start, window.end) == (SCHEDULED - DAY, SCHEDULED - SETTLING)


def test_window_of_the_future_is_refused() -> None:
    """Nothing is left of it; the message says which windows there are."""
    with pytest.raises(PermanentError, match="choose a window that begins earlier"):
        night_window(SCHEDULED + DAY, SCHEDULED + 2 * DAY, SCHEDULED, now=SCHEDULED)


@pytest.mark.parametrize("length", [timedelta(hours=24), timedelta(hours=1), timedelta(days=3, hours=5)])
@pytest.mark.parametrize("calls", [None, 0, 49_999, 50_000, 1_000_000, 10**9])
def test_spans_cover_window_and_look_back_without_gap(length: timedelta, calls: int | None) -> None:
    """By creation, each beginning where the last one ended; by change, only what was created before them."""
    window = night_window(SCHEDULED - length, SCHEDULED, SCHEDULED, now=LATER)
    parts = listed_parts(window, SCHEDULED, FORTNIGHT)
    totals = dict.fromkeys(parts, None if calls is None else Totals(calls, 0))
    *by_creation, by_change = spans(window, totals)

    assert by_creation[0].start == window.listed_from
    assert by_creation[-1].end == window.end
    assert [span.start for span in by_creation[1:]] == [span.end for span in by_creation[:-1]]
    assert {span.clock for span in by_creation} == {"createdAt"}
    assert (by_change.clock, by_change.start, by_change.end) == ("updatedAt", window.listed_from, window.end)
    assert by_change.created_before == window.listed_from
    assert all(span.start.microsecond % 1000 == 0 for span in by_creation)


@pytest.mark.parametrize("nights_later", [1, 2, 3])
def test_old_call_that_changed_while_a_night_failed_is_asked_for_by_the_next(nights_later: int) -> None:
    """A call that was scheduled days ahead, and ended in the window of a night that failed, is not lost with it."""
    created, updated = SCHEDULED - timedelta(days=5), SCHEDULED - timedelta(hours=15)
    night = night_window(None, None, SCHEDULED + nights_later * DAY, now=LATER)
    asked = spans(night, dict.fromkeys(listed_parts(night, night.end, FORTNIGHT)))

    times = {"createdAt": created, "updatedAt": updated}
    matching = [
        span
        for span in asked
        if span.start <= times[span.clock] < span.end
        and (span.created_before is None or created < span.created_before)
    ]
    assert len(matching) == 1


def test_list_without_a_look_back_asks_for_changes_in_the_window_alone() -> None:
    """Whoever asks for no look-back gets none, in either way."""
    window = night_window(SCHEDULED - DAY, SCHEDULED, SCHEDULED, now=LATER, look_back=timedelta(0))
    by_change = spans(window, dict.fromkeys(listed_parts(window, SCHEDULED, FORTNIGHT)))[-1]

    assert (by_change.start, by_change.end, by_change.created_before) == (window.start, window.end, window.start)


def test_busy_days_are_listed_in_finer_spans() -> None:
    """About 50,000 calls in each task; a quiet day is one."""
    window = night_window(SCHEDULED - DAY, SCHEDULED, SCHEDULED, now=LATER, look_back=DAY)
    quiet, busy = listed_parts(window, SCHEDULED, FORTNIGHT)
    cut = spans(window, {quiet: Totals(300, 0), busy: Totals(210_000, 0)})

    assert [span.start < quiet[1] for span in cut[:-1]].count(True) == 1
    assert [span.start >= busy[0] for span in cut[:-1]].count(True) == 5


def test_window_is_cut_to_what_the_provider_still_keeps() -> None:
    """A backfill from long ago begins where Vapi's memory does."""
    window = night_window(SCHEDULED - 30 * DAY, SCHEDULED - DAY, SCHEDULED, now=LATER)
    kept = still_kept(window, SCHEDULED, FORTNIGHT)

    assert (kept.start, kept.end) == (SCHEDULED - FORTNIGHT, SCHEDULED - DAY)
    assert still_kept(WINDOW, SCHEDULED, FORTNIGHT) == WINDOW


def test_list_begins_where_the_provider_s_memory_does() -> None:
    """Older calls are not asked for; what would be listed of them proves nothing."""
    window = night_window(SCHEDULED - FORTNIGHT, SCHEDULED, SCHEDULED, now=LATER)
    parts = listed_parts(window, SCHEDULED, FORTNIGHT)

    assert (parts[0][0], parts[-1][1]) == (SCHEDULED - FORTNIGHT, SCHEDULED)


def test_window_beyond_the_provider_s_memory_is_refused() -> None:
    """There is nothing to compare with, and the message names the setting."""
    window = night_window(SCHEDULED - 20 * DAY, SCHEDULED - 15 * DAY, SCHEDULED, now=LATER)

    with pytest.raises(PermanentError, match=r"keeps calls for 14 days.*VAPI_RETENTION_DAYS"):
        listed_parts(window, SCHEDULED, FORTNIGHT)


def test_days_of_a_backfill_are_cut_at_midnight() -> None:
    """Whenever it is asked for, so that a resumed one finds the days that are done; a change of clocks is none."""
    start, end = datetime(2026, 10, 24, 17, 30, tzinfo=UTC), datetime(2026, 10, 27, 2, tzinfo=UTC)
    cut = list(days(start, end))

    assert [low for low, _ in cut] == [start, *(datetime(2026, 10, day, tzinfo=UTC) for day in (25, 26, 27))]
    assert [high for _, high in cut[:-1]] == [low for low, _ in cut[1:]]
    assert cut[-1][1] == end


def test_pieces_cross_the_end_of_a_month() -> None:
    """Half-open, without a gap, the last one shorter."""
    start, end = datetime(2026, 2, 27, 22, tzinfo=UTC), datetime(2026, 3, 1, 1, tzinfo=UTC)
    cut = list(pieces(start, end, DAY))

    assert cut == [(start, start + DAY), (start + DAY, end)]


def test_comparison_says_what_is_to_be_done() -> None:
    """Missing and unconnected calls are to be recorded, drifted ones corrected, the rest is counted or named."""
    found = differences(
        [
            listed("same", assistant_id="asst"),
            listed("lost", assistant_id="asst"),
            listed("stray"),
            listed("unanswered", None),
            listed("longer", 90, assistant_id="asst"),
            listed("dearer", cost="0.30", assistant_id="asst"),
            listed("moved", assistant_id="other"),
            listed("running", status="in-progress", created_at=AS_OF - timedelta(hours=1)),
            UnreadableRow("broken", "no time"),
        ],
        [known("same"), known("longer"), known("dearer"), known("moved"), known("phantom")],
        [route(), route("other", GLOBEX)],
    )
    compared = comparison(found)
    recorded = [
        Recovered("lost", UUID(ACME), "settled", 700_000, known=False),
        Recovered("stray", None, "unattributed", None, known=False),
        Recovered("unanswered", None, "free", 0, known=False),
    ]
    corrected = [Corrected("longer", UUID(ACME), 350_000), Corrected("dearer", UUID(ACME), 0)]
    listed_findings = {
        (finding.kind, finding.call_id, finding.amount_micros, finding.outcome)
        for finding in findings(compared, recorded, corrected)
    }

    assert {call.id for call in compared.missing} == {"lost", "stray", "unanswered"}
    assert {call.id for call in compared.drifted} == {"longer", "dearer"}
    assert {kind: count for kind, count in compared.counts.items() if count} == {
        "matched": 1,
        "missing": 1,
        "unattributed": 1,
        "unconnected": 1,
        "drift": 3,
        "phantom": 1,
        "open": 1,
        "unreadable": 1,
    }
    assert (compared.reliability.by_webhook, compared.reliability.ended) == (5, 7)
    assert sorted(call.id for call in compared.lost) == ["lost", "stray"]
    assert listed_findings == {
        ("missing", "lost", 700_000, "settled"),
        ("unattributed", "stray", None, "unattributed"),
        ("drift", "longer", 350_000, "corrected"),
        ("drift", "dearer", 0, "noted"),
        ("drift", "moved", None, "noted"),
        ("phantom", "phantom", None, "noted"),
        ("unreadable", "broken", None, "noted"),
    }
    assert [call.call_id for call in recovered_calls(compared, recorded)] == ["lost"]


def test_recovered_is_what_the_run_charged_of_lost_webhooks() -> None:
    """Neither what cannot be charged yet, nor what a webhook brought meanwhile, nor a call whose report waits."""
    outcomes = {"paid": "settled", "owed": "outstanding", "short": "free"}
    others = {"bad": "refused", "stray": "unattributed", "dear": "unpriced", "brought": "settled", "told": "settled"}
    ids = [*outcomes, *others]
    compared = comparison(differences([listed(call_id, assistant_id="asst") for call_id in ids], []))
    compared.reported = {"told"}
    recorded = [
        Recovered(call_id, UUID(ACME), outcome, 0, known=call_id == "brought")
        for call_id, outcome in {**outcomes, **others}.items()
    ]

    assert [call.call_id for call in recovered_calls(compared, recorded)] == list(outcomes)


def test_drift_shows_both_sides_ours_first() -> None:
    """Whoever reads the finding sees what moved from what to what."""
    found = differences(
        [listed("a", 90, cost="0.15", assistant_id="other")], [known("a")], [route(), route("other", GLOBEX)]
    )
    finding = findings(comparison(found), [], [Corrected("a", UUID(ACME), 350_000)])[0]

    assert finding.organization_id == UUID(ACME)
    assert finding.detail == {
        "duration": [60_000, 90_000],
        "cost": [100_000, 150_000],
        "organization": [ACME, GLOBEX],
    }


def test_call_listed_twice_is_recorded_as_last_updated() -> None:
    """The older row is a finding; the later one is what the books take."""
    early, late = listed(seconds=60), listed(seconds=90, updated_at=AS_OF - timedelta(hours=1))
    compared = comparison(differences([late, early], []))

    assert compared.missing == [late.ended_call()]
    assert compared.counts["duplicate"] == 1


def test_call_in_quarantine_is_not_recorded_again() -> None:
    """It is in the books already and waits for a route; the finding still says so."""
    compared = comparison(differences([listed("stray")], [known("stray", organization_id=None)]))
    found = findings(compared, [], [])

    assert compared.missing == []
    assert [(finding.kind, finding.outcome) for finding in found] == [("unattributed", "unattributed")]


def test_call_that_ended_a_moment_ago_may_yet_tell_us() -> None:
    """In a window that ends now it counts neither as lost nor as told."""
    just_now = AS_OF - timedelta(minutes=2)
    compared = comparison(differences([listed("now", 10, created_at=just_now), listed("before")], []))

    assert (compared.reliability.ended, [call.id for call in compared.lost]) == (1, ["before"])


def test_call_whose_times_the_provider_lost_is_not_made_free() -> None:
    """A drift that people look at; the money that it cost stays."""
    compared = comparison(differences([listed("a", None, cost="0.30")], [known("a", 60)]))

    assert compared.counts["drift"] == 1
    assert compared.drifted == []


TOLERANCE = ListTolerance(Decimal("0.01"), 5)


@pytest.mark.parametrize(
    ("listed_calls", "reported", "verdict"),
    [
        (1000, Totals(1000, 100_000_000), "complete"),
        (990, Totals(1000, 100_000_000), "complete"),
        (989, Totals(1000, 100_000_000), "incomplete"),
        (1011, Totals(1000, 100_000_000), "incomplete"),
        (5, Totals(10, 1_000_000), "complete"),
        (4, Totals(10, 1_000_000), "incomplete"),
        (0, Totals(0, 0), "complete"),
        (1000, Totals(1000, 103_000_000), "incomplete"),
        (1000, None, "unproven"),
    ],
)
def test_list_is_complete_within_tolerance(listed_calls: int, reported: Totals | None, verdict: str) -> None:
    """One percent of calls and of cost, or five calls on a quiet day; without totals nothing is proved."""
    assert TOLERANCE.verdict(Totals(listed_calls, listed_calls * 100_000), reported) == verdict


def test_parts_of_the_list_are_proved_by_creation() -> None:
    """Each part counts its own calls, one listed twice once, and one without cost as costing nothing."""
    calls = [listed(f"call-{number}", created_at=CREATED + number * timedelta(hours=5)) for number in range(6)]
    provider = provider_frame([*calls, calls[0], listed("free", cost=None)])
    parts = list(pieces(CREATED, CREATED + 2 * DAY, DAY))
    first, second = prove_complete(
        provider, {parts[0]: Totals(6, 500_000), parts[1]: Totals(100, 10_000_000)}, TOLERANCE
    )

    assert (first.listed, first.verdict) == (Totals(6, 500_000), "complete")
    assert (second.listed, second.verdict) == (Totals(1, 100_000), "incomplete")


@pytest.mark.parametrize("stops_billing", [True, False])
def test_calls_of_an_incomplete_part_wait(stops_billing: bool) -> None:
    """Neither recorded nor corrected until list and totals agree, if the setting says so; a finding says it."""
    proof = Completeness(CREATED, CREATED + DAY, Totals(2, 0), Totals(50, 0), "incomplete")
    before = CREATED - timedelta(hours=1)
    found = differences(
        [
            listed("held", assistant_id="asst"),
            listed("changed", 90, assistant_id="asst"),
            listed("earlier", created_at=before, assistant_id="asst"),
        ],
        [known("changed")],
    )
    compared = comparison(found, [proof], stops_billing=stops_billing)
    shown = findings(compared, [Recovered("earlier", UUID(ACME), "settled", 1, known=False)], [])

    assert {call.id for call in compared.missing} == ({"earlier"} if stops_billing else {"earlier", "held"})
    assert {call.id for call in compared.drifted} == (set() if stops_billing else {"changed"})
    assert shown[0].kind == "incomplete"
    assert shown[0].detail is not None
    assert (shown[0].detail["listed_calls"], shown[0].detail["reported_calls"]) == (2, 50)
    if stops_billing:
        outcomes = {finding.call_id: finding.outcome for finding in shown[1:]}
        assert outcomes == {"held": "held", "changed": "held", "earlier": "settled"}


def test_money_is_added_up_by_currency() -> None:
    """Nothing is ever added to another currency's."""
    acme, globex = UUID(ACME), UUID(GLOBEX)
    recovered = [
        Recovered("a", acme, "settled", 700_000, known=False),
        Recovered("b", acme, "outstanding", 100_000, known=False),
        Recovered("c", globex, "settled", 5_000, known=False),
        Recovered("d", None, "unattributed", None, known=False),
    ]
    corrected = [Corrected("e", acme, -50_000), Corrected("f", globex, None)]
    lost = [LostValue("EUR", 5_000, 0), LostValue("USD", 950_000, 40_000)]
    currencies = {acme: "USD", globex: "EUR"}
    euros, dollars = money(WINDOW, recovered, corrected, lost, ["a", "b", "c", "earlier"], currencies)

    assert (euros.currency, euros.recovered_micros, euros.projected_monthly_loss_micros) == ("EUR", 5_000, 150_000)
    assert (dollars.recovered_micros, dollars.outstanding_micros) == (700_000, 100_000)
    assert (dollars.at_risk_micros, dollars.corrected_micros) == (40_000, -50_000)
    assert (euros.earlier_micros, dollars.earlier_micros) == (0, 150_000)
    assert dollars.projected_monthly_loss_micros == 990_000 * 30


def test_three_percent_of_ten_thousand_calls_a_month_cost_what_everybody_quotes() -> None:
    """300 lost calls of three minutes at $0.70 a minute: $630 a month."""
    window = Window(AS_OF - timedelta(days=3), AS_OF, AS_OF - timedelta(days=6))
    lost = 30 * 3 * 700_000  # 3 % of the 1,000 calls of three days

    assert money(window, [], [], [LostValue("USD", lost, 0)], [], {})[0].projected_monthly_loss_micros == 630_000_000
