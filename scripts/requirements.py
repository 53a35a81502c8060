"""Refresh the pinned requirements: `make requirements`.

All lists carry hashes, are good for Python 3.11 and later on any platform, and name no registry:

- requirements.txt      what a reader needs: the dependencies of pyproject.toml and the build backend
- requirements-dev.txt  the same and the `dev` extra
- requirements-uv.txt   uv itself, which sets the other two up ten times faster than pip does
"""

from __future__ import annotations

import pathlib
import shutil
import subprocess
import sys
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent

def compile_list(uv: str, name: str, options: list[str], packages: list[str]) -> None:
    """Write the pinned list `name` for `packages` and what `options` add, each at its newest release."""
    command = [uv, "pip", "compile", "-", *options, "--upgrade", "--universal", "--python-version", "3.11"]
    command += ["--generate-hashes", "--no-emit-index-url", "--no-emit-find-links", "--no-annotate", "--quiet"]
    command += ["--custom-compile-command", "make requirements", "--output-file", name]
    subprocess.run(command, input="\n".join(packages), text=True, cwd=ROOT, check=True)
    pinned = sum("==" in line for line in (ROOT / name).read_text().splitlines())
    print(f"{name}: {pinned} packages")


def main() -> int:
    """Compile the lists; needs uv on PATH or in the environment that runs this."""
    uv = shutil.which("uv") or shutil.which("uv", path=str(pathlib.Path(sys.executable).parent))
    if uv is None:
        print("refreshing the pinned requirements needs uv: pip install uv", file=sys.stderr)
        return 1
    backend = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    compile_list(uv, "requirements.txt", ["pyproject.toml"], backend)
    # The reader's list constrains the developer's, so that both name the same versions.
    developer = ["pyproject.toml", "--extra", "dev", "--constraint", "requirements.txt"]
    compile_list(uv, "requirements-dev.txt", developer, backend)
    compile_list(uv, "requirements-uv.txt", [], ["uv"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
