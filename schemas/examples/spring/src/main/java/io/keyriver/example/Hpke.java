package io.keyriver.example;

import java.nio.ByteBuffer;
import java.security.GeneralSecurityException;
import java.util.Arrays;
import javax.crypto.Cipher;
import javax.crypto.KeyAgreement;
import javax.crypto.Mac;
import javax.crypto.spec.GCMParameterSpec;
import javax.crypto.spec.SecretKeySpec;

/** Opening in HPKE base mode (RFC 9180): DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM, one message. */
final class Hpke {
    private static final byte[] KEM = Frames.concat(Frames.utf8("KEM"), new byte[] {0x00, 0x20});
    private static final byte[] SUITE = Frames.concat(Frames.utf8("HPKE"), new byte[] {0x00, 0x20, 0, 1, 0, 2});
    private static final byte[] NONE = new byte[0];
    private static final int ENC = 32;

    private Hpke() {}

    /** The public key of a raw private key: X25519 with the base point, u = 9. */
    static byte[] publicKey(byte[] privateKey) throws GeneralSecurityException {
        byte[] base = new byte[32];
        base[0] = 9;
        return exchange(privateKey, base);
    }

    /** The plaintext of {@code enc || ct}. */
    static byte[] open(byte[] privateKey, byte[] info, byte[] sealed) throws GeneralSecurityException {
        byte[] enc = Arrays.copyOf(sealed, ENC);
        byte[] kemContext = Frames.concat(enc, publicKey(privateKey));
        byte[] eaePrk = extract(KEM, NONE, "eae_prk", exchange(privateKey, enc));
        byte[] shared = expand(KEM, eaePrk, "shared_secret", kemContext, 32);

        byte[] context = Frames.concat(
                new byte[] {0}, extract(SUITE, NONE, "psk_id_hash", NONE), extract(SUITE, NONE, "info_hash", info));
        byte[] secret = extract(SUITE, shared, "secret", NONE);
        byte[] key = expand(SUITE, secret, "key", context, 32);
        byte[] nonce = expand(SUITE, secret, "base_nonce", context, 12);

        Cipher cipher = Cipher.getInstance("AES/GCM/NoPadding");
        cipher.init(Cipher.DECRYPT_MODE, new SecretKeySpec(key, "AES"), new GCMParameterSpec(128, nonce));
        return cipher.doFinal(sealed, ENC, sealed.length - ENC);
    }

    private static byte[] exchange(byte[] privateKey, byte[] publicKey) throws GeneralSecurityException {
        KeyAgreement agreement = KeyAgreement.getInstance("X25519");
        agreement.init(RawKeys.x25519Private(privateKey));
        agreement.doPhase(RawKeys.x25519(publicKey), true);
        return agreement.generateSecret();
    }

    private static byte[] extract(byte[] suite, byte[] salt, String label, byte[] input)
            throws GeneralSecurityException {
        return hmac(salt, Frames.concat(Frames.utf8("HPKE-v1"), suite, Frames.utf8(label), input));
    }

    /** At most 32 bytes, so HKDF-Expand is its first block. */
    private static byte[] expand(byte[] suite, byte[] prk, String label, byte[] info, int length)
            throws GeneralSecurityException {
        byte[] size = ByteBuffer.allocate(2).putShort((short) length).array();
        byte[] labeled = Frames.concat(size, Frames.utf8("HPKE-v1"), suite, Frames.utf8(label), info);
        return Arrays.copyOf(hmac(prk, Frames.concat(labeled, new byte[] {1})), length);
    }

    private static byte[] hmac(byte[] key, byte[] message) throws GeneralSecurityException {
        Mac mac = Mac.getInstance("HmacSHA256");
        // JCA refuses an empty key; HMAC pads with zeros, so 32 of them are the same key.
        mac.init(new SecretKeySpec(key.length == 0 ? new byte[32] : key, "HmacSHA256"));
        return mac.doFinal(message);
    }
}
