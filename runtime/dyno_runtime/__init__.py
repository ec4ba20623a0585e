"""The serving runtime: `python -m dyno_runtime SETTINGS.json` runs one process of a cluster.

`settings` says what a process is told, `roles` what it does, `core` how it decides, `bus` how it talks,
`engine` who makes the tokens, `wire` what travels.
"""
