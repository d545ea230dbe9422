package io.keyriver.example;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.security.PublicKey;
import java.security.Signature;
import java.util.Arrays;
import java.util.Base64;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.TimeUnit;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import org.springframework.kafka.annotation.KafkaListener;
import org.springframework.stereotype.Component;

/**
 * The workers' signing keys, each certified by the fleet key that the identity pins, or by one that follows it: a rotation
 * is believed when the old key and the new one both signed it. The topic is read from its start.
 */
@Component
class FleetKeys {
    private static final Logger log = LoggerFactory.getLogger(FleetKeys.class);
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final long MOST_LIFE_MS = TimeUnit.MINUTES.toMillis(24 * 60 + 10);
    private static final long SKEW_MS = TimeUnit.MINUTES.toMillis(5);
    private static final int MOST_UNPROVEN = 1000;

    private record Certificate(PublicKey key, long notBeforeMs, long notAfterMs) {}

    private final Identity identity;
    private final Map<String, Certificate> certificates = new ConcurrentHashMap<>();

    /** The fleet's keys that are known (base64 of the point), and until when each signs. */
    private final Map<String, Long> fleetKeys = new ConcurrentHashMap<>();

    /** What no known key had signed; a rotation that is told later may explain it. */
    private final Map<String, JsonNode> unproven = new LinkedHashMap<>();

    FleetKeys(Identity identity) {
        this.identity = identity;
        fleetKeys.put(Base64.getEncoder().encodeToString(RawKeys.point(identity.fleetKey())), Long.MAX_VALUE);
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
            } else if (said.path("kind").asText().equals("fleet-key")) {
                follow(said);
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

    /** A rotation of the fleet's key: both keys signed it, we know the old one, and it has no other successor. */
    private synchronized void follow(JsonNode said) throws Exception {
        byte[] old = said.path("predecessor").binaryValue();
        byte[] next = said.path("public_key").binaryValue();
        long since = said.path("not_before_ms").asLong();
        byte[] payload = Frames.framed(
                "keyriver-fleet-key/1", identity.fleet(), said.path("number").asText(), old, next, Long.toString(since));
        String from = said.path("predecessor").asText();
        String to = said.path("public_key").asText();
        if (fleetKeys.containsKey(to)) {
            return;
        }
        if (!said.path("fleet").asText().equals(identity.fleet())
                || fleetKeys.getOrDefault(from, 0L) != Long.MAX_VALUE
                || !signed(old, payload, said.path("by_predecessor"))
                || !signed(next, payload, said.path("by_itself"))) {
            throw new IllegalArgumentException("not a rotation of this fleet's key");
        }
        fleetKeys.put(from, since + SKEW_MS);
        fleetKeys.put(to, Long.MAX_VALUE);
        List<JsonNode> waiting = List.copyOf(unproven.values());
        unproven.clear();
        for (JsonNode each : waiting) {
            try {
                accept(each);
            } catch (IllegalArgumentException e) {
                log.debug("still unproven: {}", e.getMessage());
            }
        }
    }

    private boolean ours(byte[] payload, JsonNode signature, long atMs) throws Exception {
        for (Map.Entry<String, Long> key : fleetKeys.entrySet()) {
            if (atMs <= key.getValue() && signed(Base64.getDecoder().decode(key.getKey()), payload, signature)) {
                return true;
            }
        }
        return false;
    }

    private static boolean signed(byte[] point, byte[] payload, JsonNode signature) throws Exception {
        Signature verifier = Signature.getInstance("SHA256withECDSAinP1363Format");
        verifier.initVerify(RawKeys.p256(point));
        verifier.update(payload);
        return verifier.verify(Base64.getDecoder().decode(signature.asText()));
    }

    private synchronized void accept(JsonNode said) throws Exception {
        byte[] key = said.path("public_key").binaryValue();
        String kid = said.path("kid").asText();
        long notBefore = said.path("not_before_ms").asLong();
        long notAfter = said.path("not_after_ms").asLong();
        byte[] payload = Frames.framed(
                "keyriver-certificate/1", identity.fleet(), kid, key, Long.toString(notBefore), Long.toString(notAfter));
        if (!said.path("fleet").asText().equals(identity.fleet())
                || !kid.equals(HexFormat.of().formatHex(Arrays.copyOf(RawKeys.sha256(key), 16)))
                || notAfter - notBefore > MOST_LIFE_MS
                || !holds(notBefore, notAfter)) {
            throw new IllegalArgumentException("not a certificate of this fleet that holds now");
        }
        if (!ours(payload, said.path("signature"), notBefore)) {
            if (unproven.size() < MOST_UNPROVEN) {
                unproven.put(kid, said);
            }
            throw new IllegalArgumentException("no key that is known to be the fleet's signed it");
        }
        certificates.put(kid, new Certificate(RawKeys.ed25519(key), notBefore, notAfter));
    }

    private static boolean holds(long notBeforeMs, long notAfterMs) {
        long now = System.currentTimeMillis();
        return notBeforeMs - SKEW_MS <= now && now <= notAfterMs;
    }
}
