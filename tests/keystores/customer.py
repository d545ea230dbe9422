"""The customer's own hands at his PKCS#11 token: `python -m tests.keystores.customer`, one JSON request on stdin.

Another process and another binding (python-pkcs11), for what the customer does is none of the worker's doing.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from worker.local import Token


def ask(token: Token, do: str, label: str, **more: object) -> Any:  # noqa: ANN401 - whatever the JSON says
    """Have it done. `do` is create, switch, destroy or pin."""
    asked = {"module": str(token.module), "token": token.label, "pin_file": str(token.pin_file), "do": do}
    done = subprocess.run(
        [sys.executable, "-m", __name__],
        input=json.dumps(asked | {"label": label} | more),
        capture_output=True,
        text=True,
        env=os.environ | token.env,
        cwd=Path(__file__).parents[2],
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def main() -> None:
    """Answer one request."""
    import pkcs11  # noqa: PLC0415 - only in this process
    from pkcs11 import Attribute, KeyType, ObjectClass  # noqa: PLC0415

    asked = json.loads(sys.stdin.read())
    label, identity = asked["label"], bytes.fromhex(asked.get("id", "01"))
    token = pkcs11.lib(asked["module"]).get_token(token_label=asked["token"])
    pin = asked.get("pin") or Path(asked["pin_file"]).read_text().strip()
    session = token.open(user_pin=pin, rw=True)
    found = list(session.get_objects({Attribute.LABEL: label, Attribute.CLASS: ObjectClass.SECRET_KEY}))
    match asked["do"]:
        case "create":
            template = {
                Attribute.EXTRACTABLE: asked.get("extractable", False),
                Attribute.SENSITIVE: True,
                Attribute.PRIVATE: True,
                Attribute.MODIFIABLE: True,
                Attribute.ENCRYPT: True,
                Attribute.DECRYPT: True,
                Attribute.WRAP: False,
                Attribute.UNWRAP: False,
            }
            for old in found:
                old[Attribute.ENCRYPT] = asked.get("keep", False)
            session.generate_key(
                KeyType.AES, asked.get("bits", 256), label=label, id=identity, store=True, template=template
            )
        case "switch":
            for key in found:
                key[Attribute.ENCRYPT] = key[Attribute.DECRYPT] = asked["on"]
        case "destroy":
            for key in found:
                key.destroy()
        case "count":
            pass
    session.close()
    print(json.dumps(len(found)))  # noqa: T201


if __name__ == "__main__":
    main()
