"""What will be done: placement, ports, settings, and from what was seen the steps, as values. Pure."""
