/* What the token gives to a C program: AES-256-GCM encryptions a second on N threads, one session each.
   Usage: c_ceiling MODULE TOKEN_LABEL THREADS SECONDS TEXT_BYTES AAD_BYTES, the PIN on standard input. */
#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../tests/shim/ck.h"

typedef CK_ULONG U;
static CK_FUNCTION_LIST *list;
static U slot, key;
static int text_bytes, aad_bytes;
static double seconds;
static atomic_long done;
static atomic_int failed;

#define CALL(name, types, ...) ((U(*) types)list->call[name])(__VA_ARGS__)

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void *loop(void *unused) {
    CK_BYTE iv[12] = {0}, aad[4096] = {0}, text[4096] = {0}, out[8192];
    U session = 0;
    long count = 0;
    (void)unused;
    if (CALL(OpenSession, (U, U, void *, void *, U *), slot, 6, NULL, NULL, &session)) atomic_store(&failed, 1);
    for (double end = now() + seconds; !atomic_load(&failed) && now() < end; count++) {
        memcpy(iv, &count, sizeof count);
        CK_GCM_PARAMS parameters = {iv, 12, 96, aad, aad_bytes, 128};
        CK_MECHANISM mechanism = {0x1087, &parameters, sizeof parameters};
        U length = sizeof out;
        if (CALL(EncryptInit, (U, CK_MECHANISM *, U), session, &mechanism, key) ||
            CALL(Encrypt, (U, CK_BYTE *, U, CK_BYTE *, U *), session, text, text_bytes, out, &length))
            atomic_store(&failed, 1);
    }
    atomic_fetch_add(&done, count);
    return NULL;
}

static int connect_token(const char *module, const char *label) {
    CK_C_INITIALIZE_ARGS locking = {.flags = 2};
    CK_BYTE info[1024], pin[256], yes = 1, no = 0;
    U slots[32], count = 32, class = 4, type = 0x1f, length = 32, session;
    void *loaded = dlopen(module, RTLD_NOW);
    U (*get)(CK_FUNCTION_LIST **) = loaded ? (U(*)(CK_FUNCTION_LIST **))dlsym(loaded, "C_GetFunctionList") : NULL;
    if (!get || get(&list) || CALL(Initialize, (void *), &locking)) return 1;
    if (CALL(GetSlotList, (CK_BYTE, U *, U *), 1, slots, &count)) return 2;
    for (slot = ~0UL; count--;)
        if (!CALL(GetTokenInfo, (U, void *), slots[count], info) && !strncmp((char *)info, label, strlen(label)))
            slot = slots[count];
    if (CALL(OpenSession, (U, U, void *, void *, U *), slot, 6, NULL, NULL, &session)) return 3;
    U size = fread(pin, 1, sizeof pin, stdin);
    if (CALL(Login, (U, U, CK_BYTE *, U), session, 1, pin, size)) return 4;
    CK_ATTRIBUTE template[] = {{0, &class, sizeof class}, {0x100, &type, sizeof type}, {0x161, &length, sizeof length},
                               {1, &no, 1}, {2, &yes, 1}, {0x103, &yes, 1}, {0x162, &no, 1}, {0x104, &yes, 1}};
    CK_MECHANISM generate = {0x1080, NULL, 0};
    return CALL(GenerateKey, (U, CK_MECHANISM *, CK_ATTRIBUTE *, U, U *), session, &generate, template, 8, &key) ? 5 : 0;
}

int main(int count, char **argument) {
    if (count != 7) return 64;
    int code = connect_token(argument[1], argument[2]), threads = atoi(argument[3]);
    pthread_t thread[64];
    seconds = atof(argument[4]);
    text_bytes = atoi(argument[5]);
    aad_bytes = atoi(argument[6]);
    if (code || threads > 64) return code ? code : 64;
    double began = now();
    for (int i = 0; i < threads; i++) pthread_create(&thread[i], NULL, loop, NULL);
    for (int i = 0; i < threads; i++) pthread_join(thread[i], NULL);
    if (atomic_load(&failed)) return 6;
    printf("%f\n", atomic_load(&done) / (now() - began));
    return 0;
}
