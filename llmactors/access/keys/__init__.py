"""API keys: who holds one, what it allows, and until when.

text       the key as its holder has it: made here, shown once, never stored
record     what is stored of a key; pure
store      how records are written and read: in a file, in Redis
file       one JSON file, replaced whole
redis      one hash, for all gateways of a cluster
keyring    what a gateway knows of the store: kept up to date, and for how long it may go by what it knew last
actor      runs a keyring in a tree
"""
