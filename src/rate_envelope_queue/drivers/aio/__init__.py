"""The queue on an asyncio event loop."""
