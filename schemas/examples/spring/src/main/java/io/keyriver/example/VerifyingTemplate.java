package io.keyriver.example;

import java.security.PublicKey;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import org.springframework.kafka.core.ProducerFactory;
import org.springframework.kafka.listener.GenericMessageListenerContainer;
import org.springframework.kafka.requestreply.ReplyingKafkaTemplate;

/** ReplyingKafkaTemplate that never sees an answer which the fleet did not give to that very request. */
class VerifyingTemplate extends ReplyingKafkaTemplate<String, byte[], byte[]> {
    private static final Logger log = LoggerFactory.getLogger(VerifyingTemplate.class);

    private final Identity identity;
    private final FleetKeys fleetKeys;
    private final Map<String, byte[]> digests;

    VerifyingTemplate(
            ProducerFactory<String, byte[]> producers,
            GenericMessageListenerContainer<String, byte[]> replies,
            Identity identity,
            FleetKeys fleetKeys,
            Map<String, byte[]> digests) {
        super(producers, replies);
        this.identity = identity;
        this.fleetKeys = fleetKeys;
        this.digests = digests;
    }

    @Override
    public void onMessage(List<ConsumerRecord<String, byte[]>> records) {
        super.onMessage(records.stream().filter(this::isGenuine).toList());
    }

    /** No more answers to this request are expected. */
    void forget(String id) {
        digests.remove(id);
    }

    private boolean isGenuine(ConsumerRecord<String, byte[]> record) {
        String id = RequestSigner.text(record.headers(), "ce_id");
        byte[] digest = digests.get(id);
        if (digest == null) {
            return false; // another client's
        }
        try {
            String jws = RequestSigner.text(record.headers(), "keyriver-signature");
            PublicKey key = fleetKeys.find(Jws.kid(jws));
            byte[] payload = Frames.framed(
                    "keyriver-reply/1",
                    identity.fleet(),
                    record.topic(),
                    RequestSigner.text(record.headers(), "ce_type"),
                    id,
                    digest,
                    RawKeys.sha256(record.value()));
            if (key != null && Jws.holds(jws, key, payload)) {
                return true;
            }
        } catch (Exception e) {
            log.warn("an answer to {} can't be read: {}", id, e.toString());
        }
        log.warn("an answer to {} is refused: it is not the fleet's", id);
        return false;
    }
}
