"""What the Makefile's targets run, a module each."""
