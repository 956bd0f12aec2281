"""The three transports, and what they share: HTTP, asyncio, gRPC."""
