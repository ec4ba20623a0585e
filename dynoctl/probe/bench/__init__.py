"""Load that is really sent: our own generator, and the tools that are run as programs."""
