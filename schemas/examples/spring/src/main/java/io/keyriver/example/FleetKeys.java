package io.keyriver.example;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.security.PublicKey;
import java.security.Signature;
import java.util.Arrays;
import java.util.Base64;
import java.util.HexFormat;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.TimeUnit;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import org.springframework.kafka.annotation.KafkaListener;
import org.springframework.stereotype.Component;

/** The workers' signing keys, each certified by the fleet key that the identity pins. The topic is read from its start. */
@Component
class FleetKeys {
    private static final Logger log = LoggerFactory.getLogger(FleetKeys.class);
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final long MOST_LIFE_MS = TimeUnit.MINUTES.toMillis(24 * 60 + 10);
    private static final long SKEW_MS = TimeUnit.MINUTES.toMillis(5);

    private record Certificate(PublicKey key, long notBeforeMs, long notAfterMs) {}

    private final Identity identity;
    private final Map<String, Certificate> certificates = new ConcurrentHashMap<>();

    FleetKeys(Identity identity) {
        this.identity = identity;
    }

    @KafkaListener(
            topics = "${keyriver.prefix}.intake.v1",
            groupId = "#{T(java.util.UUID).randomUUID().toString()}",
            properties = "auto.offset.reset=earliest")
    void announced(byte[] value) {
        try {
            JsonNode said = JSON.readTree(value);
            if (said.path("kind").asText().equals("certificate")) {
                accept(said);
            }
        } catch (Exception e) {
            log.warn("an announcement is refused: {}", e.getMessage());
        }
    }

    /** The key of this name, waiting a moment for its certificate; null if there is none that holds now. */
    PublicKey find(String kid) throws InterruptedException {
        for (int tries = 0; tries < 50 && !certificates.containsKey(kid); tries++) {
            Thread.sleep(100);
        }
        Certificate found = certificates.get(kid);
        return found != null && holds(found.notBeforeMs, found.notAfterMs) ? found.key : null;
    }

    private void accept(JsonNode said) throws Exception {
        byte[] key = said.path("public_key").binaryValue();
        String kid = said.path("kid").asText();
        long notBefore = said.path("not_before_ms").asLong();
        long notAfter = said.path("not_after_ms").asLong();
        byte[] payload = Frames.framed(
                "keyriver-certificate/1", identity.fleet(), kid, key, Long.toString(notBefore), Long.toString(notAfter));
        Signature signature = Signature.getInstance("SHA256withECDSAinP1363Format");
        signature.initVerify(identity.fleetKey());
        signature.update(payload);
        if (!said.path("fleet").asText().equals(identity.fleet())
                || !kid.equals(HexFormat.of().formatHex(Arrays.copyOf(RawKeys.sha256(key), 16)))
                || notAfter - notBefore > MOST_LIFE_MS
                || !holds(notBefore, notAfter)
                || !signature.verify(Base64.getDecoder().decode(said.path("signature").asText()))) {
            throw new IllegalArgumentException("not a certificate of this fleet that holds now");
        }
        certificates.put(kid, new Certificate(RawKeys.ed25519(key), notBefore, notAfter));
    }

    private static boolean holds(long notBeforeMs, long notAfterMs) {
        long now = System.currentTimeMillis();
        return notBeforeMs - SKEW_MS <= now && now <= notAfterMs;
    }
}
