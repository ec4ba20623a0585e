"""What travels between processes: messages, their bytes, and the names outside a process. Pure."""
