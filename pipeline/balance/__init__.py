"""Devices move between the pools while a run goes on: docs/BALANCE.md."""
