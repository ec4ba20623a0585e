"""One file a verb: read what was typed, call the rooms from left to right, choose the exit code."""
