"""What counts as growth: a leak does, noise and the first minutes do not."""

from random import Random

from .memory import Sample, lives, slope_per_hour

MINUTES = 10
EVERY_SECONDS = 5


def samples(name: str, megabytes_per_minute: float, *, noise: float = 4.0, warm_up: float = 60.0) -> list[Sample]:
    """Ten minutes of a process that warms up, then grows at this rate, with noise."""
    random = Random(3)
    found = []
    for at in range(0, MINUTES * 60, EVERY_SECONDS):
        size = 100 + min(at / 240, 1) * warm_up + megabytes_per_minute * at / 60 + random.uniform(-noise, noise)
        found.append(Sample(at, name, 1, size, size))
    return found


def problems(found: list[Sample]) -> list[str]:
    """What is said about them at the end."""
    return [problem for life in lives(found, MINUTES * 60) for problem in life.problems]


def test_slope_is_that_of_the_line() -> None:
    """Three MB a minute are 180 MB an hour."""
    line = [Sample(at, "worker", 1, 7 + at * 0.05, 7 + at * 0.05) for at in range(0, 600, 5)]

    assert round(slope_per_hour(line), 6) == 180


def test_warm_up_and_noise_are_no_growth() -> None:
    """A process that takes 60 MB in its first minutes and then moves by some MB is flat."""
    assert problems(samples("worker", 0.0, noise=8.0)) == []


def test_leak_of_a_few_hundred_bytes_per_event_is_found() -> None:
    """4 MB a minute, which is 330 bytes for each of 200 events a second, do not pass for noise."""
    found = problems(samples("worker", 4.0))

    assert len(found) == 1
    assert found[0].startswith("worker grows by")


def test_large_process_is_a_problem_even_if_it_is_flat() -> None:
    """Half a gigabyte is the limit."""
    found = [Sample(at, "prefect", 1, 510.0, 400.0) for at in range(0, 600, 5)]

    assert problems(found) == ["prefect took 510 MB, more than 500 MB"]


def test_process_that_dies_in_the_second_half_is_a_problem() -> None:
    """The soak itself kills in the first half alone."""
    found = [Sample(at, "receiver", 1 if at < 450 else 2, 60.0, 50.0) for at in range(0, 600, 5)]

    assert problems(found) == ["receiver did not live through the second half: it died, or was not there"]


def test_nights_come_and_go() -> None:
    """Their size is judged, not their absence."""
    assert problems([Sample(300, "night", 9, 320.0, 300.0)]) == []
