#!/bin/sh
# Wrap a key of your own for a Keyriver fleet, with OpenSSL 3 alone. What you need:
#   DIR     the folder that `keyriver key import-parameters TENANT --out DIR` wrote (or its three files)
#   KEY     a file with your key, 32 random bytes; if there is no such file, one is made: keep it, it is yours
#   FLEET   the fleet's public key in PEM, from a channel that you trust; not from whoever gave you DIR
# Then send DIR/key.blob and the check value back. OpenSSL takes AES keys on its command line, which other users of the
# same machine can read while it runs: use a machine of your own.
set -eu
umask 077
[ $# -eq 3 ] || { echo "usage: $0 DIR KEY FLEET" >&2; exit 2; }
dir=$1 key=$2 fleet=$3
statement=$dir/statement.txt

said() { sed -n "s/^$1: //p" "$statement"; }
hex() { od -An -v -tx1 "$1" | tr -d ' \n'; }
refuse() { echo "refused: $1" >&2; exit 1; }

# 1. The fleet says so: its signature over the statement.
openssl dgst -sha256 -verify "$fleet" -signature "$dir/statement.sig" "$statement" >/dev/null ||
    refuse "the fleet's key did not sign $statement"
[ "$(head -n 1 "$statement")" = keyriver-import/1 ] || refuse "$statement is another kind of statement"

# 2. It is about this public key, and holds now.
[ "$(openssl dgst -sha256 -r "$dir/public.der" | cut -d ' ' -f 1)" = "$(said public-key-sha256)" ] ||
    refuse "$dir/public.der is another key than the statement's"
[ "$(date +%s)" -lt "$(($(said expires-ms) / 1000))" ] || refuse "the import parameters have expired"
sed 's/^/    /' "$statement" >&2

# 3. The key.
[ -e "$key" ] || openssl rand -out "$key" 32
[ "$(wc -c <"$key")" -eq 32 ] || refuse "$key has not 32 bytes"

# 4. Wrapped as the statement says.
case $(said algorithm) in
*_SHA_256) hash=sha256 ;;
*_SHA_1) hash=sha1 ;;
*) refuse "an algorithm that this script does not know" ;;
esac
oaep() {
    openssl pkeyutl -encrypt -pubin -keyform DER -inkey "$dir/public.der" -in "$1" -out "$2" \
        -pkeyopt rsa_padding_mode:oaep -pkeyopt "rsa_oaep_md:$hash" -pkeyopt "rsa_mgf1_md:$hash"
}
case $(said algorithm) in
RSAES_OAEP_*)
    oaep "$key" "$dir/key.blob"
    ;;
RSA_AES_KEY_WRAP_*)
    transport=$(mktemp "$dir/transport.XXXXXX")
    trap 'rm -f "$transport" "$dir/outer" "$dir/inner"' EXIT
    openssl rand -out "$transport" 32
    oaep "$transport" "$dir/outer"
    openssl enc -id-aes256-wrap-pad -K "$(hex "$transport")" -iv A65959A6 -in "$key" -out "$dir/inner"
    cat "$dir/outer" "$dir/inner" >"$dir/key.blob"
    ;;
esac

# 5. The check value: the first three bytes of a zero block under the key.
check=$(head -c 16 /dev/zero | openssl enc -aes-256-ecb -nopad -K "$(hex "$key")" | head -c 3 | od -An -v -tx1 | tr -d ' \n')
echo "$check" >"$dir/check-value"
echo "keyriver key import TENANT --parameters $dir --check-value $check"
