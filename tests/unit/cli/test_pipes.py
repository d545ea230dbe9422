"""`keyriver … | head`: whoever reads the output may stop reading."""

import os
import subprocess
import sys

from tests.unit.cli.conftest import Configure


def test_a_reader_that_has_seen_enough_ends_the_command_quietly(configure: Configure) -> None:
    configure()
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "worker", "topics", "--acls"]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, check=False, timeout=60)
    os.close(writing)
    assert done.stderr == b""
    assert done.returncode == 141, "as the shell counts SIGPIPE"
