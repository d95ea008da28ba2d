"""The keeper: the parent process of a gateway. It holds the clients' connections while gateways die and are replaced.

It uses the standard library alone, and imports nothing else of the package.

protocol           the messages between the keeper and a gateway
slots              the memory that gateways share, of which the keeper knows the size alone
connections        what the keeper holds of one connection
table              all connections, and the listening socket
gateway_process    one process of a gateway: its start, and its messages
signals            the signals of the keeper
silence            how long a gateway has been silent, of the time in which it could have spoken
takeover           in which parts a gateway gets the connections, and which connection ends gateways
log_line           the lines that the keeper writes to standard error
status             how other processes see a keeper
process            the process: it accepts, holds, and keeps one gateway that serves and one that is warm
"""
