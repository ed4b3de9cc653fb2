"""µD3TN's own tools at our door; run by the Python of `make interop`.

usage: ud3tn_peer.py aap2_send|aap2_receive ARGUMENT...
"""

import importlib
import sys

name = sys.argv.pop(1)
sys.exit(importlib.import_module(f"ud3tn_utils.aap2.bin.{name}").main())
