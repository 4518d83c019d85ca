"""What all tests share; it stands in `quick_suite`."""

from quick_suite import commands_are_built_once, pytest_collection, pytest_xdist_make_scheduler

__all__ = ["commands_are_built_once", "pytest_collection", "pytest_xdist_make_scheduler"]
