"""How an answer goes on at an upstream, after another one was lost.

strategy          the strategies by which an answer begins or goes on at an upstream; pure
chooser           chooses the strategy for one upstream, by its abilities and its refusals
abilities         asks what one upstream can do, such as to continue a text
overlap           removes from a stream what the client has already; pure
"""
