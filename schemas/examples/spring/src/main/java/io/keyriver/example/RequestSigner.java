package io.keyriver.example;

import static java.nio.charset.StandardCharsets.UTF_8;

import java.time.Instant;
import java.time.temporal.ChronoUnit;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import org.apache.kafka.clients.producer.ProducerInterceptor;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.Headers;

/**
 * Signs each request as the last thing before it is sent: ReplyingKafkaTemplate adds the reply topic after application
 * code, and the signature covers it. The correlation id is echoed and not signed. If signing throws, Kafka sends the
 * record unsigned, and the fleet does not answer it.
 */
public class RequestSigner implements ProducerInterceptor<String, byte[]> {
    static final String IDENTITY = "keyriver.identity";
    static final String DIGESTS = "keyriver.digests";

    private Identity identity;
    private Map<String, byte[]> digests;

    @Override
    @SuppressWarnings("unchecked")
    public void configure(Map<String, ?> configs) {
        identity = (Identity) configs.get(IDENTITY);
        digests = (ConcurrentHashMap<String, byte[]>) configs.get(DIGESTS);
    }

    @Override
    public ProducerRecord<String, byte[]> onSend(ProducerRecord<String, byte[]> record) {
        Headers headers = record.headers();
        put(headers, "ce_specversion", "1.0");
        put(headers, "ce_source", "spring-example");
        put(headers, "ce_tenant", identity.tenant());
        put(headers, "ce_client", identity.client());
        put(headers, "ce_time", Instant.now().truncatedTo(ChronoUnit.MILLIS).toString());
        put(headers, "content-type", "application/json");
        String id = text(headers, "ce_id");
        byte[] payload = Frames.framed(
                "keyriver-request/1",
                identity.fleet(),
                identity.tenant(),
                identity.client(),
                record.topic(),
                id,
                text(headers, "ce_type"),
                text(headers, "ce_source"),
                text(headers, "ce_time"),
                text(headers, "ce_deadline"),
                text(headers, "kafka_replyTopic"),
                "", // no reply partition
                recipient(headers),
                RawKeys.sha256(record.value()));
        try {
            put(headers, "keyriver-signature", Jws.sign(identity.client(), identity.signingKey(), payload));
        } catch (Exception e) {
            throw new IllegalStateException(e);
        }
        digests.put(id, RawKeys.sha256(payload));
        return record;
    }

    /** The suite's name, a zero byte, the key; nothing if the request names none. */
    private byte[] recipient(Headers headers) {
        if (headers.lastHeader("ce_recipient") == null) {
            return new byte[0];
        }
        return Frames.concat(Frames.utf8("x25519"), new byte[] {0}, identity.recipientPublic());
    }

    private static void put(Headers headers, String name, String value) {
        headers.remove(name);
        headers.add(name, Frames.utf8(value));
    }

    static String text(Headers headers, String name) {
        Header header = headers.lastHeader(name);
        return header == null ? "" : new String(header.value(), UTF_8);
    }

    @Override
    public void onAcknowledgement(RecordMetadata metadata, Exception exception) {}

    @Override
    public void close() {}
}
