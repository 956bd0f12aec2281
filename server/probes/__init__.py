"""Whether a server lives and is ready, answered without a token on an address of its own.

server -> answers, watch -> looking -> judging -> verdicts
"""
