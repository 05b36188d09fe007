"""What the Makefile's targets run, a module each."""

import sys

# jsonschema, with which nbformat checks notebooks, imports rfc3987_syntax if that is installed, to check international
# web addresses. It takes longer than all else that nbformat imports, and the notebook format has none.
sys.modules.setdefault("rfc3987_syntax", None)  # None: importing it fails, as if it were not installed
