"""Decisions. Nothing here waits, reads a clock, draws a number or talks to anybody: all of that comes in."""
