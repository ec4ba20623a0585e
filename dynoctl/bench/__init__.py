"""What a benchmark is: its load, its samples, its record, and whether it may be believed. Pure."""
