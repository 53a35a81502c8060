"""One look at a kernel's memory: from /proc here and now, or from a sample that was kept."""

from __future__ import annotations

import os
import pathlib
import platform
import re
from dataclasses import dataclass, field

from .procfs import OrderRow, PageTypes, ZoneRow, parse_buddyinfo, parse_pagetypeinfo, parse_zoneinfo

_SAMPLES = pathlib.Path(__file__).parent / "samples"
DEFAULT_SAMPLE = "linux-6.18-x86_64"
_SETTINGS = ("min_free_kbytes", "watermark_scale_factor", "lowmem_reserve_ratio")


@dataclass
class Reading:
    """What a kernel says of its memory. Rows are in pages of ``page_size`` bytes.

    ``live``: read from this computer just now. ``label``: a sentence that says whose numbers these are.
    ``notes``: a sentence for each thing that could not be read. ``settings``: numbers from /proc/sys/vm.
    """

    live: bool
    label: str
    kernel: str
    page_size: int
    buddyinfo: list[OrderRow] = field(default_factory=list)
    zoneinfo: list[ZoneRow] = field(default_factory=list)
    pagetypes: PageTypes | None = None
    settings: dict[str, tuple[int, ...]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def zone(self, node: int, zone: str) -> ZoneRow | None:
        """The zone's row of zoneinfo, or None."""
        return next((z for z in self.zoneinfo if (z.node, z.zone) == (node, zone)), None)


def samples() -> list[str]:
    """Names of the kept samples, newest kernel first."""
    return sorted((p.name for p in _SAMPLES.iterdir() if (p / "about").is_file()), key=_version, reverse=True)


def _version(name: str) -> list[int]:
    return [int(n) for n in re.findall(r"\d+", name.split("-")[1])]


def sample(name: str = DEFAULT_SAMPLE) -> Reading:
    """A kept sample, clearly labelled as one. Raises ValueError for a name not in :func:`samples`."""
    if name not in samples():
        raise ValueError(f"no sample {name!r}; there are {', '.join(samples())}")
    folder = _SAMPLES / name
    title, *lines = (folder / "about").read_text(encoding="utf-8").splitlines()
    about = dict(line.split(" ", 1) for line in lines if " " in line)
    reading = Reading(False, f"A sample, not this computer: {title[0].lower()}{title[1:]}.", about["kernel"], int(about["page_size"]))
    reading.settings = {k: tuple(int(n) for n in about[k].split()) for k in _SETTINGS if k in about}
    reading.buddyinfo = parse_buddyinfo((folder / "buddyinfo").read_text(encoding="utf-8"))
    reading.zoneinfo = parse_zoneinfo((folder / "zoneinfo").read_text(encoding="utf-8"))
    if (folder / "pagetypeinfo").is_file():
        reading.pagetypes = parse_pagetypeinfo((folder / "pagetypeinfo").read_text(encoding="utf-8"))
    else:
        reading.notes.append("This kernel has no /proc/pagetypeinfo: pages are grouped by kind only since 2.6.24.")
    return reading


def read(proc: str | os.PathLike[str] = "/proc") -> Reading:
    """This computer's kernel, now; where there is no /proc/buddyinfo, the default sample with a note why.

    *proc* is where the process file system is mounted. Nothing is written anywhere.
    """
    root = pathlib.Path(proc)
    try:
        buddyinfo = parse_buddyinfo((root / "buddyinfo").read_text(encoding="ascii", errors="replace"))
    except (OSError, ValueError) as error:
        reading = sample()
        reading.notes.insert(0, _why_sample(error))
        return reading
    reading = Reading(True, f"This computer, Linux {_release(root)}.", _release(root), _page_size(), buddyinfo)
    try:
        reading.zoneinfo = parse_zoneinfo((root / "zoneinfo").read_text(encoding="ascii", errors="replace"))
    except (OSError, ValueError) as error:
        reading.notes.append(f"/proc/zoneinfo cannot be read here ({_short(error)}), so watermarks, reserves and page sets are missing.")
    try:
        reading.pagetypes = parse_pagetypeinfo((root / "pagetypeinfo").read_text(encoding="ascii", errors="replace"))
    except PermissionError:
        reading.notes.append(
            "/proc/pagetypeinfo is for root only since Linux 5.4, because reading it holds the zone's lock for long: "
            "the kinds of pages are missing here."
        )
    except (OSError, ValueError) as error:
        reading.notes.append(f"/proc/pagetypeinfo cannot be read here ({_short(error)}), so the kinds of pages are missing.")
    for name in _SETTINGS:
        try:
            reading.settings[name] = tuple(int(n) for n in (root / "sys" / "vm" / name).read_text(encoding="ascii").split())
        except (OSError, ValueError):
            continue  # older kernels have fewer of them, and a picture can do without
    return reading


def _why_sample(error: Exception) -> str:
    if platform.system() != "Linux":
        return f"This computer runs {platform.system() or 'something else'}, which has no /proc/buddyinfo, so a sample is shown."
    return f"/proc/buddyinfo cannot be read here ({_short(error)}), so a sample is shown."


def _short(error: Exception) -> str:
    return (error.strerror or type(error).__name__) if isinstance(error, OSError) else str(error)


def _release(root: pathlib.Path) -> str:
    try:
        return (root / "sys" / "kernel" / "osrelease").read_text(encoding="ascii").strip()
    except OSError:
        return platform.release() or "of unknown version"


def _page_size() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return 4096
