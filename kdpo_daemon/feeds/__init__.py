"""The way in: HTTP to bytes, bytes to entries."""
