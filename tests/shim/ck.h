/* The little of PKCS#11 v2.40 that the shim and the C ceiling need; the function list is an array in the standard's order. */
#ifndef KEYRIVER_CK_H
#define KEYRIVER_CK_H
typedef unsigned long CK_ULONG;
typedef unsigned char CK_BYTE;
typedef struct { CK_ULONG type; void *value; CK_ULONG length; } CK_ATTRIBUTE;
typedef struct { CK_ULONG mechanism; void *parameter; CK_ULONG length; } CK_MECHANISM;
typedef struct { CK_BYTE *iv; CK_ULONG iv_length, iv_bits; CK_BYTE *aad; CK_ULONG aad_length, tag_bits; } CK_GCM_PARAMS;
typedef struct { void *create, *destroy, *lock, *unlock; CK_ULONG flags; void *reserved; } CK_C_INITIALIZE_ARGS;
typedef struct { CK_BYTE version[2]; void *call[68]; } CK_FUNCTION_LIST;
enum {
    Initialize, Finalize, GetInfo, GetFunctionList, GetSlotList, GetSlotInfo, GetTokenInfo, GetMechanismList,
    GetMechanismInfo, InitToken, InitPIN, SetPIN, OpenSession, CloseSession, CloseAllSessions, GetSessionInfo,
    GetOperationState, SetOperationState, Login, Logout, CreateObject, CopyObject, DestroyObject, GetObjectSize,
    GetAttributeValue, SetAttributeValue, FindObjectsInit, FindObjects, FindObjectsFinal, EncryptInit, Encrypt,
    EncryptUpdate, EncryptFinal, DecryptInit, Decrypt, DecryptUpdate, DecryptFinal, DigestInit, Digest, DigestUpdate,
    DigestKey, DigestFinal, SignInit, Sign, SignUpdate, SignFinal, SignRecoverInit, SignRecover, VerifyInit, Verify,
    VerifyUpdate, VerifyFinal, VerifyRecoverInit, VerifyRecover, DigestEncryptUpdate, DecryptDigestUpdate,
    SignEncryptUpdate, DecryptVerifyUpdate, GenerateKey, GenerateKeyPair, WrapKey, UnwrapKey, DeriveKey, SeedRandom,
    GenerateRandom, GetFunctionStatus, CancelFunction, WaitForSlotEvent, FUNCTIONS
};
#endif
