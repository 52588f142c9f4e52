"""`pytest --nbval book` compares the pages of the book that compute."""

from comparison import pytest_collectstart

__all__ = ["pytest_collectstart"]
