"""The models that a worker loads on demand: which are in memory, and which take their place.

plan      the decision: what to load, and what to unload for that; pure
model     what is known of a model, and what the decision follows; pure
states    what the directory says of a model that is not in memory; pure
budget    the memory that the models share, checked at the start
load_log  logs and counts the loads
member    one model of the pool, and its actors
others    what a worker knows of the models of other workers
refusing  ends the requests of a model that cannot be loaded
actor     the actor that looks at what waits, decides, and tells backends and batchers
"""
