"""The seams of the bus in one process, for tests and simulations. Time is the event loop's, chance comes in."""
