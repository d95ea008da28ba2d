"""Backends of one's own: whatever a dotted path or an entry point names. CUSTOM.md tells how."""
