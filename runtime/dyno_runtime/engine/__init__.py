"""Who makes tokens: one protocol (`base`) and one file for each engine behind it."""
