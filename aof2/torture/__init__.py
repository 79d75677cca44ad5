"""Tests that run for hours: `ci/torture`."""
