"""The database of the tests of alerts, emptied for each test."""

from tests.alerts.conftest import books, engine, engines, owner, package_url

__all__ = ["books", "engine", "engines", "owner", "package_url"]
