"""What the Makefile's targets run, a module each."""

import sys

# jsonschema, with which nbformat checks notebooks, imports a grammar of addresses if it is there, which takes longer
# than all else that nbformat imports. No notebook needs it.
sys.modules.setdefault("rfc3987_syntax", None)  # to Python: not there
