"""How a client reaches its server: address, encryption, tokens, repeats, and what errors mean."""
