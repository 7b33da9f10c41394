"""Events that change while they are claimed: a repeated delivery counts up on the very row."""

from threading import Event, Thread

import psycopg

from billing import inbox

from .story import Story, report

REPEATED = (
    "UPDATE events SET deliveries = deliveries + 1"
    " WHERE id IN (SELECT id FROM events WHERE state = 'waiting' LIMIT 10)"
)
ROUNDS, AT_ONCE = 60, 15


def test_claims_of_events_that_change_meanwhile_take_each_once(story: Story) -> None:
    """PostgreSQL looks at a changed row again, and finds its body again."""
    done = Event()

    def repeat() -> None:
        with psycopg.connect(story.url, autocommit=True) as connection:
            while not done.is_set():
                connection.execute(REPEATED.encode())

    repeating = Thread(target=repeat)
    repeating.start()
    claimed = []
    try:
        for number in range(ROUNDS):
            inbox.accept(story.engine, [report(f"call-{number}-{place}") for place in range(AT_ONCE)])
            if number % 3 == 0:
                claimed += inbox.claim(story.engine, "worker", 1000)
    finally:
        done.set()
        repeating.join()
    claimed += inbox.claim(story.engine, "worker", 1000)

    assert len({event.id for event in claimed}) == len(claimed) == ROUNDS * AT_ONCE
    assert all(event.body for event in claimed)
