"""The keystores' edge: customers' keys behind an XKS proxy or a transit engine, over HTTPS (SECURITY S13).

A customer's PKCS#11 token is opened by the HSM edge, which has the binding; `app` puts both behind one port.
"""

from worker.edges.keystores.credentials import Credential, Pkcs11Credential, read_credentials
from worker.edges.keystores.opening import HttpsKeystores
from worker.edges.keystores.renewal import CredentialFolder

__all__ = ["Credential", "CredentialFolder", "HttpsKeystores", "Pkcs11Credential", "read_credentials"]
