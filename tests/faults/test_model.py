"""A short, seeded run of the stateful model; `aof2/torture/model.py` has the rules."""

from __future__ import annotations

import logging

import pytest
from hypothesis.stateful import RULE_MARKER

from aof2.torture.model import LogMachine, run_examples

SEED = 1


@pytest.fixture(autouse=True)
def quiet():
    """Takeovers and cut tails are told to the log, and are what this is about."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def test_a_stream_equals_a_list(tmp_path):
    """Goal: whatever happens in whatever order, records, offsets and watermarks are right.

    Method: forty examples of sixty steps, drawn by a seed.
    """
    run_examples(SEED, 40)


def test_a_list_that_differs_is_found_out(monkeypatch):
    """Goal: the model can fail. Method: a list that forgets a record at each kill."""
    opened = LogMachine._open

    def forgetful(self, files, objects):
        opened(self, files, objects)
        self.records = self.records[:-1]

    monkeypatch.setattr(LogMachine, "_open", forgetful)
    with pytest.raises(AssertionError):
        run_examples(SEED, 40)


def test_every_operation_has_a_rule():
    """Goal: the list of operations is covered. Method: look for the names."""
    names = "append append_many append_packed flush seal reopen kill trim get read_all seek evict"
    assert all(hasattr(getattr(LogMachine, name), RULE_MARKER) for name in names.split())
