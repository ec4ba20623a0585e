"""An engine without a GPU: continuous batching, paged KV with a prefix cache, and faults, all of it deterministic.

`scheduler` decides and absorbs, without a clock; `machine` gives it time; `engine` is what the roles see.
"""
