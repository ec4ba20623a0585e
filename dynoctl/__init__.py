"""From a YAML file to a proven cluster. Rooms, each with one kind of work; docs/architecture.md says what is in which."""
