"""Backends that others write, named by a dotted path or an entry point. CUSTOM.md shows how to write one."""
