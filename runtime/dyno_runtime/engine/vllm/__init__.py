"""vLLM in this process, behind the engine protocol; the only place that imports vllm, and only when it is loaded.

`arguments`, `sampling`, `kv_events`, `tally` and `transfer` are values in and out, and need no vllm; `library` is
what is taken of it, `kv_listener` hears its KV events, `engine` joins them.
"""
