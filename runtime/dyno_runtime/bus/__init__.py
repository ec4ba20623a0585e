"""How things travel: the stream transport between processes, the registry, the prefill queue, HTTP.

Three seams, `Transport`, `Store` and `Queue`, are in `base`; each has a real implementation and one in memory.
"""
