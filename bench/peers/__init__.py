"""The servers that llmactors is measured beside. Each folder has what it needs, pinned, and one start script."""
