package io.keyriver.example;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.time.Duration;
import java.util.Arrays;
import java.util.Base64;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.ConcurrentHashMap;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.springframework.beans.factory.annotation.Value;
import org.springframework.boot.CommandLineRunner;
import org.springframework.boot.SpringApplication;
import org.springframework.boot.autoconfigure.SpringBootApplication;
import org.springframework.boot.autoconfigure.kafka.KafkaProperties;
import org.springframework.context.annotation.Bean;
import org.springframework.kafka.core.ConsumerFactory;
import org.springframework.kafka.core.DefaultKafkaProducerFactory;
import org.springframework.kafka.listener.ConcurrentMessageListenerContainer;
import org.springframework.kafka.listener.ContainerProperties;

/** Generates two data keys through Keyriver, unwraps them again by their ids, and compares. */
@SpringBootApplication
public class KeyriverApplication {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final Duration PATIENCE = Duration.ofSeconds(20);

    public static void main(String[] args) {
        System.exit(SpringApplication.exit(SpringApplication.run(KeyriverApplication.class, args)));
    }

    @Bean
    Identity identity(@Value("${keyriver.identity}") Path file) throws Exception {
        return Identity.read(file);
    }

    @Bean
    VerifyingTemplate keyriver(
            KafkaProperties kafka, ConsumerFactory<String, byte[]> consumers, Identity identity, FleetKeys fleetKeys) {
        Map<String, byte[]> digests = new ConcurrentHashMap<>();
        Map<String, Object> options = kafka.buildProducerProperties(null);
        options.put(ProducerConfig.INTERCEPTOR_CLASSES_CONFIG, RequestSigner.class.getName());
        options.put(RequestSigner.IDENTITY, identity);
        options.put(RequestSigner.DIGESTS, digests);

        ContainerProperties properties = new ContainerProperties(identity.replyTopic());
        properties.setGroupId("spring-example-" + UUID.randomUUID()); // every instance hears every answer
        properties.getKafkaConsumerProperties().setProperty(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG, "latest");
        VerifyingTemplate template = new VerifyingTemplate(
                new DefaultKafkaProducerFactory<>(options),
                new ConcurrentMessageListenerContainer<>(consumers, properties),
                identity,
                fleetKeys,
                digests);
        template.setSharedReplyTopic(true);
        template.setDefaultReplyTimeout(PATIENCE);
        return template;
    }

    @Bean
    CommandLineRunner example(
            VerifyingTemplate keyriver,
            Identity identity,
            @Value("${keyriver.prefix}") String prefix,
            @Value("${keyriver.key}") String key) {
        return args -> {
            keyriver.waitForAssignment(PATIENCE);
            Map<String, String> context = Map.of("invoice", "4711");
            Answer made = ask(keyriver, identity, prefix, "wrap", key, Map.of(
                    "key", key,
                    "return_dek", true,
                    "items", List.of(Map.of("context", context), Map.of("context", context))));
            List<Map<String, Object>> stored = List.of(
                    Map.of("id", made.results.get(0).path("id").asText(), "context", context),
                    Map.of("id", made.results.get(1).path("id").asText(), "context", context));
            Answer back = ask(keyriver, identity, prefix, "unwrap", key, Map.of("items", stored));
            for (int item = 0; item < 2; item++) {
                boolean same = MessageDigest.isEqual(made.deks[item], back.deks[item]);
                System.out.printf(
                        "DEK %s, %d bytes, key version %d, unwrapped again: %s%n",
                        made.results.get(item).path("id").asText(),
                        made.deks[item].length,
                        back.results.get(item).path("version").asInt(),
                        same ? "the same" : "ANOTHER ONE");
                if (!same) {
                    throw new IllegalStateException("the unwrapped DEK is another one");
                }
            }
        };
    }

    private record Answer(JsonNode results, byte[][] deks) {}

    private static Answer ask(
            VerifyingTemplate keyriver, Identity identity, String prefix, String operation, String key, Object body)
            throws Exception {
        String id = UUID.randomUUID().toString();
        ProducerRecord<String, byte[]> request = new ProducerRecord<>(
                prefix + "." + operation + ".v1", identity.tenant() + "/" + key, JSON.writeValueAsBytes(body));
        request.headers()
                .add("ce_id", Frames.utf8(id))
                .add("ce_type", Frames.utf8("keyriver." + operation + ".v1"))
                .add("ce_recipient", Frames.utf8("x25519:" + Base64.getEncoder().encodeToString(identity.recipientPublic())));
        ConsumerRecord<String, byte[]> reply;
        try {
            reply = keyriver.sendAndReceive(request).get();
        } finally {
            keyriver.forget(id);
        }
        JsonNode answer = JSON.readTree(reply.value());
        if (answer.hasNonNull("error")) {
            throw new IllegalStateException(answer.path("error").toString());
        }
        for (JsonNode result : answer.path("results")) {
            if (result.has("code")) {
                throw new IllegalStateException(result.toString());
            }
        }
        byte[] info = Frames.framed(
                "keyriver/1",
                "reply",
                "x25519",
                identity.fleet(),
                identity.tenant(),
                identity.client(),
                operation,
                id,
                RawKeys.sha256(identity.recipientPublic()));
        byte[] slots = Hpke.open(identity.recipientPrivate(), info, answer.path("sealed").path("ciphertext").binaryValue());
        byte[][] deks = new byte[answer.path("results").size()][];
        int position = 0;
        for (int item = 0; item < deks.length; item++) {
            int length = Byte.toUnsignedInt(slots[position]);
            deks[item] = Arrays.copyOfRange(slots, position + 1, position + 1 + length);
            position += 1 + length;
        }
        return new Answer(answer.path("results"), deks);
    }
}
