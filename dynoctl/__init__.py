"""From a YAML file to a proven cluster: rooms, each with one kind of work (docs/architecture.md)."""
