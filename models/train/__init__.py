"""How the shipped networks are trained: `python -m train --help`, run from `models/`."""
