"""Pictures of the machine: ``views.frames(m)``, ``views.buddy(m)``, ``views.zones(m)``, ``views.bootmem(tape)``, ``views.host()``.

Each is a widget with a ``text_alternative``; ``refresh()`` redraws it, and so does every cell that is run.
"""

# Imported here, not when first asked for: the import of a module `frames` would else hide the function `frames`.
from .bootmem import bootmem
from .buddy import buddy
from .frames import frames
from .host import host
from .zones import zones

__all__ = ["bootmem", "buddy", "frames", "host", "zones"]
