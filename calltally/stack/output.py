"""What a child process says: to its log file, and with its name in front to the terminal."""

import asyncio
import logging
import os
import re
from collections import deque
from contextlib import suppress
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import IO, Final

from rich.console import Console
from rich.text import Text

from billing.literal import visible

TAIL_LINES: Final = 15
MAX_LOG_BYTES: Final = 10_000_000
MAX_LINE_BYTES: Final = 100_000
NAME_WIDTH: Final = 9
COLOURED: Final = re.compile(r"\x1b\[[\d;]*m")
"""Orders to change the colour; all others are shown, not followed."""
COLOURS: Final = ("cyan", "magenta", "green", "yellow", "blue")


class ChildLog:
    """The lines of one child, over all its restarts."""

    def __init__(self, name: str, path: Path, console: Console | None, number: int) -> None:
        """Append to `path`, and print to `console` in the colour of `number`."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._name = name
        self._console = console
        self._colour = COLOURS[number % len(COLOURS)]
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._file = _PatientFile(path, maxBytes=MAX_LOG_BYTES, backupCount=1, encoding="utf-8")

    def tail(self) -> str:
        """The last lines, indented."""
        return "\n".join(f"  {line}" for line in self._tail) or "  (it said nothing)"

    def close(self) -> None:
        """Close the file; what is said afterwards reopens it."""
        self._file.close()

    def note(self, text: str) -> None:
        """Add a line of the supervisor's own about the child."""
        self._write(f"[{self._name} {text}]")

    async def follow(self, source: int) -> None:
        """Read lines from the file descriptor `source` until it ends, then close it."""
        stream = os.fdopen(source, "rb", buffering=0)
        reader = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), stream)
        pending = b""
        try:
            while chunk := await reader.read(MAX_LINE_BYTES):
                *lines, pending = (pending + chunk).split(b"\n")
                if len(pending) > MAX_LINE_BYTES:
                    lines, pending = [*lines, pending], b""
                for line in lines:
                    self._write(line.decode(errors="replace").rstrip("\r"))
        finally:
            if pending:
                self._write(pending.decode(errors="replace"))
            transport.close()
            stream.close()  # the transport would do it only in the loop's next round

    def _write(self, line: str) -> None:
        line = visible(COLOURED.sub("", line))
        self._tail.append(line)
        self._save(line)
        if self._console is not None:
            prefix = Text(f"{self._name:<{NAME_WIDTH}} │ ", style=self._colour)
            # A full disk behind a redirected output, or a reader that has gone, which rich would end the program for;
            # without a capture it would also keep all that it cannot write.
            with suppress(OSError, SystemExit):
                with self._console.capture() as shown:
                    self._console.print(prefix + Text(line), soft_wrap=True)
                self._console.file.write(shown.get())
                self._console.file.flush()

    def _save(self, line: str) -> None:
        lost = self._file.lost_lines
        self._file.emit(logging.LogRecord(self._name, logging.INFO, "", 0, line, None, None))
        if lost and self._file.lost_lines == lost:
            self._file.lost_lines = 0
            self._save(f"[{self._name} said {lost} line(s) before this one that could not be written here]")


class _PatientFile(RotatingFileHandler):
    """A log that never stops its process from being read: what it has no room for is counted."""

    lost_lines = 0

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: ARG002, N802 - the base class calls it so
        """Forget what could not be written; the file is opened anew for the next line."""
        self.lost_lines += 1
        stream: IO[str] | None = self.stream
        self.stream = None
        if stream is not None:
            with suppress(OSError, ValueError):
                stream.close()

    def close(self) -> None:
        """Close it, with what could be written."""
        with suppress(OSError):
            super().close()
