package io.keyriver.example;

import java.security.GeneralSecurityException;
import java.security.KeyFactory;
import java.security.MessageDigest;
import java.security.PrivateKey;
import java.security.PublicKey;
import java.security.spec.PKCS8EncodedKeySpec;
import java.security.spec.X509EncodedKeySpec;
import java.util.Arrays;
import java.util.HexFormat;

/** Raw keys as the contract has them, in the envelopes that JCA wants (RFC 8410, RFC 5480). */
final class RawKeys {
    private static final byte[] ED25519_PUBLIC = HexFormat.of().parseHex("302a300506032b6570032100");
    private static final byte[] X25519_PUBLIC = HexFormat.of().parseHex("302a300506032b656e032100");
    private static final byte[] X25519_PRIVATE = HexFormat.of().parseHex("302e020100300506032b656e04220420");
    private static final byte[] P256_PUBLIC =
            HexFormat.of().parseHex("3059301306072a8648ce3d020106082a8648ce3d030107034200");

    private RawKeys() {}

    static PublicKey ed25519(byte[] raw) throws GeneralSecurityException {
        return published("Ed25519", ED25519_PUBLIC, raw);
    }

    static PublicKey x25519(byte[] raw) throws GeneralSecurityException {
        return published("X25519", X25519_PUBLIC, raw);
    }

    /** A 65-byte uncompressed point. */
    static PublicKey p256(byte[] raw) throws GeneralSecurityException {
        return published("EC", P256_PUBLIC, raw);
    }

    /** The same point of a key. */
    static byte[] point(PublicKey p256) {
        byte[] encoded = p256.getEncoded();
        return Arrays.copyOfRange(encoded, encoded.length - 65, encoded.length);
    }

    static PrivateKey x25519Private(byte[] raw) throws GeneralSecurityException {
        return KeyFactory.getInstance("X25519")
                .generatePrivate(new PKCS8EncodedKeySpec(Frames.concat(X25519_PRIVATE, raw)));
    }

    static byte[] sha256(byte[] bytes) {
        try {
            return MessageDigest.getInstance("SHA-256").digest(bytes);
        } catch (GeneralSecurityException e) {
            throw new IllegalStateException(e);
        }
    }

    private static PublicKey published(String algorithm, byte[] head, byte[] raw) throws GeneralSecurityException {
        return KeyFactory.getInstance(algorithm).generatePublic(new X509EncodedKeySpec(Frames.concat(head, raw)));
    }
}
