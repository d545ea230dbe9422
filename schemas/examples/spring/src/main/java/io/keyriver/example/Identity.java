package io.keyriver.example;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.nio.file.Path;
import java.security.KeyFactory;
import java.security.PrivateKey;
import java.security.PublicKey;
import java.security.spec.PKCS8EncodedKeySpec;
import java.util.Base64;

/** The identity file that {@code keyriver client add} writes. This example takes Ed25519 and X25519. */
record Identity(
        String client,
        String tenant,
        String fleet,
        PublicKey fleetKey,
        PrivateKey signingKey,
        byte[] recipientPrivate,
        byte[] recipientPublic,
        String replyTopic) {

    static Identity read(Path file) throws Exception {
        JsonNode json = new ObjectMapper().readTree(file.toFile());
        if (!json.path("algorithm").asText().equals("Ed25519") || !json.path("recipient_suite").asText().equals("x25519")) {
            throw new IllegalArgumentException("this example takes Ed25519 and x25519 identities");
        }
        String pem = json.path("private_key").asText().replaceAll("-----[A-Z ]+-----|\\s", "");
        byte[] recipient = Base64.getDecoder().decode(json.path("recipient_private_key").asText());
        return new Identity(
                json.path("client").asText(),
                json.path("tenant").asText(),
                json.path("fleet").asText(),
                RawKeys.p256(Base64.getDecoder().decode(json.path("fleet_key").asText())),
                KeyFactory.getInstance("Ed25519").generatePrivate(new PKCS8EncodedKeySpec(Base64.getDecoder().decode(pem))),
                recipient,
                Hpke.publicKey(recipient),
                json.path("reply_topic").asText());
    }

    /** A record's own text would show private keys. */
    @Override
    public String toString() {
        return "Identity[" + tenant + "/" + client + "]";
    }
}
