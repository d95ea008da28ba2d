"""Kills and upgrades of one gateway under a keeper, with ordinary clients that never reconnect or ask again.

Modules: `shapes` (what is asked, and every byte of the answer), `records` (what became of each answer), `loaders` (the
clients in processes of their own), `plain_clients` (sockets, curl and WebSockets), `libraries` (httpx and openai),
`browser` (Chromium), `run` (the cluster, the kills and the upgrades), `report` (the figures).
"""
