"""Doing it: connections to nodes, a look at them, the lock, the steps carried out. Threads live here only."""
