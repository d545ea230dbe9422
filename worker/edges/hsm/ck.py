"""The numbers of PKCS#11 v2.40 and v3.0 that this edge uses, and what each return code blames (SECURITY S9).

Error codes lie (a tampered AES-KW blob is `CKR_GENERAL_ERROR` on SoftHSM2 and `CKR_DEVICE_ERROR` on kryoptic), so a
code that is not listed in `BLAME` is ambiguous: a canary operation decides between the bytes and the device.
"""

from enum import Enum, auto

CKF_OS_LOCKING_OK = 0x2
CKF_RW_SESSION, CKF_SERIAL_SESSION = 0x2, 0x4
CKF_USER_PIN_COUNT_LOW, CKF_USER_PIN_FINAL_TRY, CKF_USER_PIN_LOCKED = 0x10000, 0x20000, 0x40000
CKU_USER = 1
CKS_RW_USER_FUNCTIONS = 3
CK_UNAVAILABLE_INFORMATION = (1 << 64) - 1

CKO_PUBLIC_KEY, CKO_PRIVATE_KEY, CKO_SECRET_KEY = 2, 3, 4
CKK_EC, CKK_GENERIC_SECRET, CKK_AES = 0x3, 0x10, 0x1F

CKA_CLASS, CKA_TOKEN, CKA_PRIVATE, CKA_LABEL, CKA_VALUE = 0x0, 0x1, 0x2, 0x3, 0x11
CKA_KEY_TYPE, CKA_ID, CKA_SENSITIVE = 0x100, 0x102, 0x103
CKA_ENCRYPT, CKA_DECRYPT, CKA_WRAP, CKA_UNWRAP = 0x104, 0x105, 0x106, 0x107
CKA_SIGN, CKA_VERIFY, CKA_DERIVE, CKA_VALUE_LEN, CKA_EXTRACTABLE = 0x108, 0x10A, 0x10C, 0x161, 0x162
CKA_MODIFIABLE, CKA_EC_PARAMS, CKA_EC_POINT, CKA_ALLOWED_MECHANISMS = 0x170, 0x180, 0x181, 0x40000600

CKM_SHA256_HMAC, CKM_GENERIC_SECRET_KEY_GEN = 0x251, 0x350
CKM_EC_KEY_PAIR_GEN, CKM_ECDSA = 0x1040, 0x1041
CKM_AES_KEY_GEN, CKM_AES_GCM = 0x1080, 0x1087
CKM_AES_KEY_WRAP = 0x2109
CKM_AES_KEY_WRAP_KWP, CKM_AES_KEY_WRAP_PAD = 0x210B, 0x210A

CKR_OK = 0x0
CKR_GENERAL_ERROR = 0x5
CKR_DEVICE_ERROR = 0x30
CKR_SESSION_COUNT = 0xB1
CKR_SESSION_HANDLE_INVALID = 0xB3
CKR_TOKEN_NOT_PRESENT = 0xE0
CKR_USER_ALREADY_LOGGED_IN = 0x100
CKR_BUFFER_TOO_SMALL = 0x150
CKR_CRYPTOKI_NOT_INITIALIZED = 0x190
CKR_CRYPTOKI_ALREADY_INITIALIZED = 0x191

CODE_NAMES = {
    0x2: "CKR_HOST_MEMORY",
    CKR_GENERAL_ERROR: "CKR_GENERAL_ERROR",
    0x6: "CKR_FUNCTION_FAILED",
    0x7: "CKR_ARGUMENTS_BAD",
    0x20: "CKR_DATA_INVALID",
    0x21: "CKR_DATA_LEN_RANGE",
    CKR_DEVICE_ERROR: "CKR_DEVICE_ERROR",
    0x31: "CKR_DEVICE_MEMORY",
    0x32: "CKR_DEVICE_REMOVED",
    0x40: "CKR_ENCRYPTED_DATA_INVALID",
    0x41: "CKR_ENCRYPTED_DATA_LEN_RANGE",
    0x42: "CKR_AEAD_DECRYPT_FAILED",
    0x54: "CKR_FUNCTION_NOT_SUPPORTED",
    0x60: "CKR_KEY_HANDLE_INVALID",
    0x62: "CKR_KEY_SIZE_RANGE",
    0x63: "CKR_KEY_TYPE_INCONSISTENT",
    0x68: "CKR_KEY_FUNCTION_NOT_PERMITTED",
    0x69: "CKR_KEY_NOT_WRAPPABLE",
    0x6A: "CKR_KEY_UNEXTRACTABLE",
    0x70: "CKR_MECHANISM_INVALID",
    0x71: "CKR_MECHANISM_PARAM_INVALID",
    0x82: "CKR_OBJECT_HANDLE_INVALID",
    0x90: "CKR_OPERATION_ACTIVE",
    0x91: "CKR_OPERATION_NOT_INITIALIZED",
    0xA0: "CKR_PIN_INCORRECT",
    0xA1: "CKR_PIN_INVALID",
    0xA2: "CKR_PIN_LEN_RANGE",
    0xA3: "CKR_PIN_EXPIRED",
    0xA4: "CKR_PIN_LOCKED",
    0xB0: "CKR_SESSION_CLOSED",
    CKR_SESSION_COUNT: "CKR_SESSION_COUNT",
    CKR_SESSION_HANDLE_INVALID: "CKR_SESSION_HANDLE_INVALID",
    0xD0: "CKR_TEMPLATE_INCOMPLETE",
    0xD1: "CKR_TEMPLATE_INCONSISTENT",
    CKR_TOKEN_NOT_PRESENT: "CKR_TOKEN_NOT_PRESENT",
    0xE1: "CKR_TOKEN_NOT_RECOGNIZED",
    0xF0: "CKR_UNWRAPPING_KEY_HANDLE_INVALID",
    0xF2: "CKR_UNWRAPPING_KEY_TYPE_INCONSISTENT",
    CKR_USER_ALREADY_LOGGED_IN: "CKR_USER_ALREADY_LOGGED_IN",
    0x101: "CKR_USER_NOT_LOGGED_IN",
    0x102: "CKR_USER_PIN_NOT_INITIALIZED",
    0x110: "CKR_WRAPPED_KEY_INVALID",
    0x112: "CKR_WRAPPED_KEY_LEN_RANGE",
    0x113: "CKR_WRAPPING_KEY_HANDLE_INVALID",
    0x115: "CKR_WRAPPING_KEY_TYPE_INCONSISTENT",
    CKR_BUFFER_TOO_SMALL: "CKR_BUFFER_TOO_SMALL",
    CKR_CRYPTOKI_NOT_INITIALIZED: "CKR_CRYPTOKI_NOT_INITIALIZED",
    CKR_CRYPTOKI_ALREADY_INITIALIZED: "CKR_CRYPTOKI_ALREADY_INITIALIZED",
}


class Blame(Enum):
    """What a return code says is at fault."""

    BYTES = auto()
    """The ciphertext or the wrapped key: final, and nobody else's trouble."""
    ABILITY = auto()
    """The token, or the key's attributes, do not offer this: final."""
    HANDLE = auto()
    """An object handle that is no more."""
    PIN = auto()
    """The login was refused: never tried again, HSMs lock at ten."""
    UNSURE = auto()
    """The bytes, the session or the device: a canary decides."""


BLAME: dict[int, Blame] = {
    **dict.fromkeys((0x20, 0x21, 0x40, 0x41, 0x42, 0x110, 0x112), Blame.BYTES),
    **dict.fromkeys((0x54, 0x62, 0x63, 0x68, 0x69, 0x6A, 0x70, 0x71, 0xD0, 0xD1, 0xF2, 0x115), Blame.ABILITY),
    **dict.fromkeys((0x60, 0x82, 0xF0, 0x113), Blame.HANDLE),
    **dict.fromkeys((0xA0, 0xA1, 0xA2, 0xA3, 0xA4), Blame.PIN),
}


class CkError(Exception):
    """A PKCS#11 function returned something other than CKR_OK."""

    def __init__(self, function: str, code: int) -> None:
        super().__init__(f"{function}: {CODE_NAMES.get(code, hex(code))}")
        self.code = code

    @property
    def blame(self) -> Blame:
        """What the code says is at fault; unknown codes are `UNSURE`."""
        return BLAME.get(self.code, Blame.UNSURE)
