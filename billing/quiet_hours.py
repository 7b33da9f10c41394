"""The hours in which only critical messages go out."""

from dataclasses import dataclass
from datetime import datetime, time, timedelta
from zoneinfo import ZoneInfo


@dataclass(frozen=True, slots=True)
class QuietHours:
    """From `begin` until before `end`, by the clocks of a zone; an end before the begin is on the next day."""

    begin: time
    end: time
    zone: ZoneInfo

    @classmethod
    def read(cls, written: str, zone: str) -> "QuietHours":
        """From `22:00-06:00` and the name of a time zone.

        Raises:
            ValueError: not two different times, or no such zone; the message says how to write it.
        """
        begin, _, end = written.partition("-")
        try:
            hours = cls(time.fromisoformat(begin.strip()), time.fromisoformat(end.strip()), ZoneInfo(zone))
        except (ValueError, OSError, KeyError) as error:
            raise ValueError(
                "write quiet hours as 22:00-06:00, and their time zone as Europe/Berlin or UTC"
            ) from error
        if hours.begin == hours.end:
            raise ValueError("quiet hours begin and end at the same time: leave them empty to have none")
        return hours

    def until(self, now: datetime) -> datetime | None:
        """When they end, in UTC, if they are now; `now` is aware."""
        here = now.astimezone(self.zone)
        for day in (here.date() - timedelta(days=1), here.date()):
            last = day + timedelta(days=1) if self.end < self.begin else day
            begin = datetime.combine(day, self.begin, self.zone)
            end = datetime.combine(last, self.end, self.zone)
            # Compared as instants: within one zone Python compares what clocks show, whatever they did in between.
            if begin.timestamp() <= now.timestamp() < end.timestamp():
                return datetime.fromtimestamp(end.timestamp(), tz=now.tzinfo)
        return None
