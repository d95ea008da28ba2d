"""Backends that others write, named by a dotted path or an entry point. CUSTOM.md shows how to write one.

load    finds a backend by its name, and checks it
batch   a plain function over a batch of prompts as a backend
kind    how `--model` names and makes such a backend
"""
