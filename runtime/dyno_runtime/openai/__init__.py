"""OpenAI's API as values: bytes to requests, answers to bytes. Pure."""
