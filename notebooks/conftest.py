"""`pytest --nbval notebooks` compares the chapters."""

from comparison import pytest_collectstart

__all__ = ["pytest_collectstart"]
