"""API keys: whom a key belongs to, what the key allows, and until when.

text       the key as its holder has it: made once, shown once, never stored
record     what is stored of a key; pure
store      the interface for reading and writing records
file       a store in one JSON file, which is replaced as a whole
redis      a store in one Redis hash, for all gateways of a cluster
keyring    a gateway's copy of the records, kept up to date
actor      the actor that runs a keyring
"""
