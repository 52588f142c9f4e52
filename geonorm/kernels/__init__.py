"""Standardization over pools: one operator, several implementations."""
