"""Speaking to people and programs: text, progress, JSON."""
