/* A PKCS#11 module in front of a real one, for tests and benches: latency, faults, a token that is away, call counts.

   Environment, read when the module is loaded:
     SHIM_MODULE     the real module
     SHIM_DELAY_US   microseconds that every crypto call takes longer (encrypt, decrypt, sign, wrap, unwrap, generate)
     SHIM_DELAY_ALL  if set, every call takes longer, the Inits too
     SHIM_DOWN_FILE  while this file exists the token is away: every call answers CKR_DEVICE_REMOVED, and whatever
                     sessions and session objects there were are gone when it comes back
     SHIM_COMBINED   if set, the token has CKM_RSA_AES_KEY_WRAP to unwrap with, made of its own two steps; the value is
                     its number for AES-KWP
     SHIM_NONCE      "append": the token makes its own GCM nonce and appends it (Luna in FIPS mode);
                     "write": it writes its own into the parameters (AWS CloudHSM)
   In the same process, through dlopen: shim_fail(function, every, code, times), shim_count(function), shim_logout(). */
#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "ck.h"

#define EXPORT __attribute__((visibility("default")))
enum { CKR_OK = 0, CKR_GENERAL_ERROR = 5, CKR_DEVICE_REMOVED = 0x32, CKM_AES_GCM = 0x1087 };
enum { CKM_RSA_PKCS_OAEP = 0x9, CKM_RSA_AES_KEY_WRAP = 0x1054, CKA_MODULUS = 0x120, CKR_WRAPPED_KEY_LEN_RANGE = 0x112 };

typedef CK_ULONG (*get_function_list)(CK_FUNCTION_LIST **);
typedef CK_ULONG (*slots_call)(CK_BYTE, CK_ULONG *, CK_ULONG *);
typedef CK_ULONG (*number_call)(CK_ULONG);
typedef CK_ULONG (*random_call)(CK_ULONG, CK_BYTE *, CK_ULONG);

static CK_FUNCTION_LIST *real, table;
static long delay_us;
static int delay_all;
static CK_ULONG combined_kwp;
static const char *down_file, *nonce_mode;
static atomic_long counts[FUNCTIONS], fail_every[FUNCTIONS], fail_times[FUNCTIONS];
static atomic_ulong fail_code[FUNCTIONS];
static pthread_rwlock_t life = PTHREAD_RWLOCK_INITIALIZER; /* a token goes away between calls, not inside one */
static atomic_int away;
static __thread CK_BYTE own_nonce[12];

static void lose_everything(void) {
    CK_ULONG slots[32], count = 32;
    if (((slots_call)real->call[GetSlotList])(0, slots, &count) == CKR_OK)
        for (CK_ULONG i = 0; i < count; i++) ((number_call)real->call[CloseAllSessions])(slots[i]);
}

static int is_down(void) {
    int down = down_file && access(down_file, F_OK) == 0;
    if (down != atomic_load(&away)) {
        pthread_rwlock_wrlock(&life);
        if (down && !atomic_exchange(&away, 1)) lose_everything();
        if (!down) atomic_store(&away, 0);
        pthread_rwlock_unlock(&life);
    }
    return down;
}

static CK_ULONG enter(int function, int crypto) {
    long count = atomic_fetch_add(&counts[function], 1) + 1, every = atomic_load(&fail_every[function]);
    if (is_down()) return CKR_DEVICE_REMOVED;
    if (delay_us && (crypto || delay_all)) {
        struct timespec pause = {delay_us / 1000000, (delay_us % 1000000) * 1000};
        nanosleep(&pause, NULL);
    }
    if (every && count % every == 0 && atomic_fetch_sub(&fail_times[function], 1) > 0)
        return atomic_load(&fail_code[function]);
    pthread_rwlock_rdlock(&life);
    return CKR_OK;
}

#define SHIM(name, crypto, parameters, arguments)                                    \
    static CK_ULONG shim_##name parameters {                                         \
        CK_ULONG code = enter(name, crypto);                                         \
        if (code != CKR_OK) return code;                                             \
        code = ((CK_ULONG(*) parameters)real->call[name])arguments;                  \
        pthread_rwlock_unlock(&life);                                                \
        return code;                                                                 \
    }
typedef CK_ULONG U;
typedef CK_BYTE *B;
typedef CK_MECHANISM *M;
typedef CK_ATTRIBUTE *A;
typedef CK_ULONG *P;

SHIM(Initialize, 0, (void *arguments), (arguments))
SHIM(Finalize, 0, (void *reserved), (reserved))
SHIM(GetSlotList, 0, (CK_BYTE present, P slots, P count), (present, slots, count))
SHIM(GetTokenInfo, 0, (U slot, void *info), (slot, info))
SHIM(OpenSession, 0, (U slot, U flags, void *a, void *n, P session), (slot, flags, a, n, session))
SHIM(CloseSession, 0, (U s), (s))
SHIM(CloseAllSessions, 0, (U slot), (slot))
SHIM(GetSessionInfo, 0, (U s, void *info), (s, info))
SHIM(Login, 0, (U s, U user, B pin, U length), (s, user, pin, length))
SHIM(Logout, 0, (U s), (s))
SHIM(DestroyObject, 0, (U s, U key), (s, key))
SHIM(GetAttributeValue, 0, (U s, U key, A template, U count), (s, key, template, count))
SHIM(FindObjectsInit, 0, (U s, A template, U count), (s, template, count))
SHIM(FindObjects, 0, (U s, P found, U most, P count), (s, found, most, count))
SHIM(FindObjectsFinal, 0, (U s), (s))
SHIM(DecryptInit, 0, (U s, M m, U key), (s, m, key))
SHIM(Decrypt, 1, (U s, B in, U size, B out, P length), (s, in, size, out, length))
SHIM(SignInit, 0, (U s, M m, U key), (s, m, key))
SHIM(Sign, 1, (U s, B in, U size, B out, P length), (s, in, size, out, length))
SHIM(GenerateKey, 1, (U s, M m, A template, U count, P key), (s, m, template, count, key))
SHIM(GenerateKeyPair, 1, (U s, M m, A a, U x, A b, U y, P one, P two), (s, m, a, x, b, y, one, two))
SHIM(WrapKey, 1, (U s, M m, U by, U key, B out, P length), (s, m, by, key, out, length))
SHIM(GenerateRandom, 1, (U s, B out, U size), (s, out, size))

static CK_ULONG shim_GetMechanismInfo(U slot, U type, void *info) {
    CK_ULONG code = enter(GetMechanismInfo, 0);
    if (code != CKR_OK) return code;
    if (combined_kwp && type == CKM_RSA_AES_KEY_WRAP) type = CKM_RSA_PKCS_OAEP;
    code = ((CK_ULONG(*)(U, U, void *))real->call[GetMechanismInfo])(slot, type, info);
    pthread_rwlock_unlock(&life);
    return code;
}

typedef CK_ULONG (*unwrap_call)(U, M, U, B, U, A, U, P);
typedef struct { CK_ULONG hash, mgf, source; void *data; CK_ULONG length; } oaep_parameters;
typedef struct { CK_ULONG aes_bits; oaep_parameters *oaep; } rsa_aes_parameters;

static CK_ULONG combined(U s, M m, U by, B in, U size, A t, U count, P key) {
    rsa_aes_parameters *given = m->parameter;
    CK_BYTE modulus[1024], yes = 1, no = 0;
    CK_ULONG secret = 4, aes = 0x1f, transport;
    CK_ATTRIBUTE asked = {CKA_MODULUS, modulus, sizeof modulus};
    CK_ULONG code = ((CK_ULONG(*)(U, U, A, U))real->call[GetAttributeValue])(s, by, &asked, 1);
    if (code != CKR_OK) return code;
    if (size <= asked.length) return CKR_WRAPPED_KEY_LEN_RANGE;
    CK_ATTRIBUTE uses[] = {{0x0, &secret, sizeof secret}, {0x100, &aes, sizeof aes}, {0x1, &no, 1}, {0x107, &yes, 1},
                           {0x103, &yes, 1}, {0x162, &no, 1}, {0x104, &no, 1}, {0x105, &no, 1}};
    CK_MECHANISM outer = {CKM_RSA_PKCS_OAEP, given->oaep, sizeof *given->oaep}, inner = {combined_kwp, NULL, 0};
    code = ((unwrap_call)real->call[UnwrapKey])(s, &outer, by, in, asked.length, uses, sizeof uses / sizeof *uses, &transport);
    if (code != CKR_OK) return code;
    code = ((unwrap_call)real->call[UnwrapKey])(s, &inner, transport, in + asked.length, size - asked.length, t, count, key);
    ((CK_ULONG(*)(U, U))real->call[DestroyObject])(s, transport);
    return code;
}

static CK_ULONG shim_UnwrapKey(U s, M m, U by, B in, U size, A t, U count, P key) {
    CK_ULONG code = enter(UnwrapKey, 1);
    if (code != CKR_OK) return code;
    unwrap_call call = combined_kwp && m->mechanism == CKM_RSA_AES_KEY_WRAP ? combined : (unwrap_call)real->call[UnwrapKey];
    code = call(s, m, by, in, size, t, count, key);
    pthread_rwlock_unlock(&life);
    return code;
}

static CK_ULONG shim_EncryptInit(U s, M m, U key) {
    CK_ULONG code = enter(EncryptInit, 0);
    if (code != CKR_OK) return code;
    if (nonce_mode && m->mechanism == CKM_AES_GCM) {
        CK_GCM_PARAMS *theirs = m->parameter, mine = *theirs;
        ((random_call)real->call[GenerateRandom])(s, own_nonce, sizeof own_nonce);
        mine.iv = own_nonce;
        CK_MECHANISM own = {CKM_AES_GCM, &mine, sizeof mine};
        code = ((CK_ULONG(*)(U, M, U))real->call[EncryptInit])(s, &own, key);
        if (!strcmp(nonce_mode, "write")) memcpy(theirs->iv, own_nonce, sizeof own_nonce);
    } else
        code = ((CK_ULONG(*)(U, M, U))real->call[EncryptInit])(s, m, key);
    pthread_rwlock_unlock(&life);
    return code;
}

static CK_ULONG shim_Encrypt(U s, B in, U size, B out, P length) {
    CK_ULONG code = enter(Encrypt, 1);
    if (code != CKR_OK) return code;
    code = ((CK_ULONG(*)(U, B, U, B, P))real->call[Encrypt])(s, in, size, out, length);
    if (code == CKR_OK && nonce_mode && !strcmp(nonce_mode, "append")) {
        memcpy(out + *length, own_nonce, sizeof own_nonce);
        *length += sizeof own_nonce;
    }
    pthread_rwlock_unlock(&life);
    return code;
}

EXPORT void shim_fail(int function, long every, CK_ULONG code, long times) {
    atomic_store(&fail_code[function], code);
    atomic_store(&counts[function], 0);
    atomic_store(&fail_times[function], times);
    atomic_store(&fail_every[function], every);
}
EXPORT long shim_count(int function) { return atomic_load(&counts[function]); }
EXPORT void shim_delay(long microseconds) { delay_us = microseconds; }
EXPORT void shim_logout(void) { /* as an HSM that was restarted: everybody's sessions are gone */
    pthread_rwlock_wrlock(&life);
    lose_everything();
    pthread_rwlock_unlock(&life);
}

EXPORT CK_ULONG C_GetFunctionList(CK_FUNCTION_LIST **list) {
    if (!real) {
        const char *module = getenv("SHIM_MODULE"), *delay = getenv("SHIM_DELAY_US");
        void *loaded = module ? dlopen(module, RTLD_NOW | RTLD_LOCAL) : NULL;
        get_function_list get = loaded ? (get_function_list)dlsym(loaded, "C_GetFunctionList") : NULL;
        if (!get || get(&real) != CKR_OK) return CKR_GENERAL_ERROR;
        delay_us = delay ? atol(delay) : 0;
        combined_kwp = getenv("SHIM_COMBINED") ? strtoul(getenv("SHIM_COMBINED"), NULL, 0) : 0;
        delay_all = getenv("SHIM_DELAY_ALL") != NULL;
        down_file = getenv("SHIM_DOWN_FILE");
        nonce_mode = getenv("SHIM_NONCE");
        table = *real;
#define USE(name) table.call[name] = (void *)shim_##name;
        USE(Initialize) USE(Finalize) USE(GetSlotList) USE(GetTokenInfo) USE(GetMechanismInfo) USE(OpenSession) USE(CloseSession)
        USE(CloseAllSessions) USE(GetSessionInfo) USE(Login) USE(Logout) USE(DestroyObject) USE(GetAttributeValue)
        USE(FindObjectsInit) USE(FindObjects) USE(FindObjectsFinal) USE(EncryptInit) USE(Encrypt) USE(DecryptInit)
        USE(Decrypt) USE(SignInit) USE(Sign) USE(GenerateKey) USE(GenerateKeyPair) USE(WrapKey) USE(UnwrapKey)
        USE(GenerateRandom)
    }
    *list = &table;
    return CKR_OK;
}
