"""Asks any OpenAI-compatible server for a chat completion and hands it on as it is written.

    async with aclosing(generator.stream(messages, max_tokens=400, deadline=monotonic() + 25)) as events:
        async for event in events: ...

Closing the iterator closes the HTTP stream, which makes the server stop generating.
"""

from shared.adapters.generator.client import Generator
from shared.core.completion import Finish, GenerationEvent, Prices, Token, Usage, Waking

__all__ = ["Finish", "GenerationEvent", "Generator", "Prices", "Token", "Usage", "Waking"]
