"""What the user wrote: read with every problem at its place, checked, with its defaults. Pure."""
