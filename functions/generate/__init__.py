"""The GPU server: vLLM's OpenAI-compatible server, started, watched and fenced.

    python -m functions.generate

Needs an environment with vLLM in it; imports nothing beyond what vLLM itself brings.
"""
