"""What two notebooks or more need: data, the network, its training, and how results are shown.

`helpers` is imported from the repository itself (the set-up cell of every notebook puts the
repository on Python's path); nothing is downloaded, seeded or restyled when it is imported.
"""
