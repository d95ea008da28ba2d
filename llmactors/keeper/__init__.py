"""The keeper: the parent process of a gateway. It holds the clients' connections while gateways die and are replaced.

It uses the standard library alone, and imports nothing else of the package.

protocol    the messages between the keeper and a gateway, and the records that a gateway makes of its writes
"""
