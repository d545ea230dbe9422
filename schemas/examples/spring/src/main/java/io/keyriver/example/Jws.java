package io.keyriver.example;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.security.GeneralSecurityException;
import java.security.PrivateKey;
import java.security.PublicKey;
import java.security.Signature;
import java.util.Base64;

/** Detached JWS (RFC 7515, appendix F) with Ed25519 (RFC 9864): {@code header..signature}. */
final class Jws {
    private static final Base64.Encoder URL = Base64.getUrlEncoder().withoutPadding();
    private static final ObjectMapper JSON = new ObjectMapper();

    private Jws() {}

    static String sign(String kid, PrivateKey key, byte[] payload) throws GeneralSecurityException {
        String header = URL.encodeToString(Frames.utf8("{\"alg\":\"Ed25519\",\"kid\":\"" + kid + "\"}"));
        Signature signature = Signature.getInstance("Ed25519");
        signature.initSign(key);
        signature.update(input(header, payload));
        return header + ".." + URL.encodeToString(signature.sign());
    }

    /** Whose signature it claims to be; nothing is verified yet. */
    static String kid(String jws) throws Exception {
        JsonNode header = JSON.readTree(Base64.getUrlDecoder().decode(jws.substring(0, jws.indexOf(".."))));
        if (!header.path("alg").asText().equals("Ed25519")) {
            throw new GeneralSecurityException("the algorithm is not the registered one");
        }
        return header.path("kid").asText();
    }

    static boolean holds(String jws, PublicKey key, byte[] payload) throws GeneralSecurityException {
        int dots = jws.indexOf("..");
        Signature signature = Signature.getInstance("Ed25519");
        signature.initVerify(key);
        signature.update(input(jws.substring(0, dots), payload));
        return signature.verify(Base64.getUrlDecoder().decode(jws.substring(dots + 2)));
    }

    private static byte[] input(String header, byte[] payload) {
        return Frames.utf8(header + "." + URL.encodeToString(payload));
    }
}
