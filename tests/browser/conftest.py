"""What tests of pages share; the fixtures stand in `browsing`."""

from browsing import browse, browser, pytest_terminal_summary

__all__ = ["browse", "browser", "pytest_terminal_summary"]
