"""What a server has registered, kept in a file, so that the next start serves the same.

registrations -> state_file -> starting, keeping
"""
