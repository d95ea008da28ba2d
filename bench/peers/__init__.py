"""Other servers, beside which llmactors is measured. Each folder has pinned requirements and one start script."""
