"""What a process does: one file a role, `process` which runs them together, and what several of them share."""
