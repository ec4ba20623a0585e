"""Rules that need the whole of a topology. Each takes a `Topology` that was read, and yields what it finds."""
