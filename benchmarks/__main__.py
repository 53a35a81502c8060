"""``python -m benchmarks [core] [paint] [grading]``: run the named benchmarks, or all of them."""

from __future__ import annotations

import importlib
import pkgutil
import sys

import benchmarks

names = [m.name for m in pkgutil.iter_modules(benchmarks.__path__) if not m.name.startswith("_")]
wanted = sys.argv[1:] or names
unknown = set(wanted) - set(names)
if unknown:
    raise SystemExit(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(names)}")
for name in wanted:
    print(f"== {name}", flush=True)
    sys.argv[1:] = []  # a benchmark run by itself may take options of its own
    importlib.import_module(f"benchmarks.{name}").main()
