// A small Java client for the interop tests; compiled against the client jars of each Kafka version under test.
// Records travel over stdin and stdout as JSON lines; tests/support/clients.rs is the other end.

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.BufferedReader;
import java.io.FileInputStream;
import java.io.FileOutputStream;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.io.OutputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.Future;
import java.util.concurrent.atomic.AtomicBoolean;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.PartitionInfo;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

public final class InteropClient {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static InputStream in = System.in;
    private static PrintStream out = printing(System.out);

    public static void main(String[] args) throws Exception {
        if (args[0].equals("serve")) serve(); else run(args);
    }

    private static PrintStream printing(OutputStream to) {
        return new PrintStream(to, false, StandardCharsets.UTF_8);
    }

    /** Runs one command for each line of stdin, from and to files. */
    private static void serve() throws Exception {
        BufferedReader commands = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        String line;
        while ((line = commands.readLine()) != null) {
            JsonNode command = JSON.readTree(line);
            String verdict = "ok";
            try (InputStream from = new FileInputStream(command.get("in").asText());
                 PrintStream to = printing(new FileOutputStream(command.get("out").asText()))) {
                in = from;
                out = to;
                run(JSON.convertValue(command.get("args"), String[].class));
            } catch (Exception e) {
                e.printStackTrace();
                verdict = "failed";
            }
            System.out.println(verdict);
        }
    }

    private static void run(String[] args) throws Exception {
        Properties props = new Properties();
        List<String> rest = new ArrayList<>();
        for (int i = 0; i < args.length; i++) {
            if (args[i].equals("-X")) {
                String[] pair = args[++i].split("=", 2);
                props.put(pair[0], pair[1]);
            } else {
                rest.add(args[i]);
            }
        }
        props.putIfAbsent("bootstrap.servers", rest.get(1));
        switch (rest.get(0)) {
            case "write": write(props); break;
            case "read": read(props, rest.subList(2, rest.size())); break;
            case "group": group(props, rest.get(2), rest.subList(3, rest.size())); break;
            default: throw new IllegalArgumentException(rest.get(0));
        }
        out.flush();
    }

    private static byte[] bytes(JsonNode node) {
        return node == null || node.isNull() ? null : node.asText().getBytes(StandardCharsets.UTF_8);
    }

    private static void put(ObjectNode node, String name, byte[] value) {
        node.put(name, value == null ? null : new String(value, StandardCharsets.UTF_8));
    }

    private static void write(Properties props) throws Exception {
        Map<String, KafkaProducer<byte[], byte[]>> producers = new HashMap<>();
        List<Future<RecordMetadata>> pending = new ArrayList<>();
        String line;
        BufferedReader lines = new BufferedReader(new InputStreamReader(in, StandardCharsets.UTF_8));
        while ((line = lines.readLine()) != null) {
            JsonNode record = JSON.readTree(line);
            String codec = record.get("c").asText();
            KafkaProducer<byte[], byte[]> producer = producers.computeIfAbsent(codec, c -> {
                Properties own = new Properties();
                own.putAll(props);
                own.putIfAbsent("acks", "all");
                own.putIfAbsent("linger.ms", "50");
                own.putIfAbsent("batch.size", "200000");
                own.put("compression.type", c);
                return new KafkaProducer<>(own, new ByteArraySerializer(), new ByteArraySerializer());
            });
            Long timestamp = record.hasNonNull("ts") ? record.get("ts").asLong() : null;
            ProducerRecord<byte[], byte[]> sent = new ProducerRecord<>(record.get("t").asText(), record.get("p").asInt(),
                timestamp, bytes(record.get("k")), bytes(record.get("v")));
            for (JsonNode header : record.get("h")) {
                sent.headers().add(header.get(0).asText(), bytes(header.get(1)));
            }
            pending.add(producer.send(sent));
        }
        for (KafkaProducer<byte[], byte[]> producer : producers.values()) producer.flush();
        for (Future<RecordMetadata> one : pending) one.get();
        for (KafkaProducer<byte[], byte[]> producer : producers.values()) producer.close();
        out.println("{\"event\":\"written\",\"n\":" + pending.size() + "}");
    }

    private static void print(ConsumerRecord<byte[], byte[]> record) throws Exception {
        ObjectNode node = JSON.createObjectNode();
        node.put("t", record.topic());
        node.put("p", record.partition());
        node.put("o", record.offset());
        node.put("ts", record.timestamp());
        put(node, "k", record.key());
        put(node, "v", record.value());
        ArrayNode headers = node.putArray("h");
        for (Header header : record.headers()) {
            ArrayNode pair = headers.addArray();
            pair.add(header.key());
            pair.add(header.value() == null ? null : new String(header.value(), StandardCharsets.UTF_8));
        }
        out.println(JSON.writeValueAsString(node));
    }

    private static KafkaConsumer<byte[], byte[]> consumer(Properties props) {
        props.putIfAbsent("enable.auto.commit", "false");
        props.putIfAbsent("auto.offset.reset", "earliest");
        return new KafkaConsumer<>(props, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    private static void read(Properties props, List<String> topics) throws Exception {
        try (KafkaConsumer<byte[], byte[]> consumer = consumer(props)) {
            List<TopicPartition> partitions = new ArrayList<>();
            for (String topic : topics) {
                for (PartitionInfo info : consumer.partitionsFor(topic)) {
                    partitions.add(new TopicPartition(topic, info.partition()));
                }
            }
            consumer.assign(partitions);
            consumer.seekToBeginning(partitions);
            Map<TopicPartition, Long> ends = consumer.endOffsets(partitions);
            while (partitions.stream().anyMatch(p -> consumer.position(p) < ends.get(p))) {
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(500))) print(record);
            }
        }
        out.println("{\"event\":\"end\"}");
    }

    private static void group(Properties props, String group, List<String> topics) throws Exception {
        props.put("group.id", group);
        props.putIfAbsent("heartbeat.interval.ms", "500");
        props.putIfAbsent("session.timeout.ms", "10000");
        AtomicBoolean quit = new AtomicBoolean();
        Thread watcher = new Thread(() -> {
            try {
                while (System.in.read() >= 0) { }
            } catch (java.io.IOException e) {
                System.err.println(e);
            }
            quit.set(true);
        });
        watcher.setDaemon(true);
        watcher.start();
        try (KafkaConsumer<byte[], byte[]> consumer = consumer(props)) {
            consumer.subscribe(topics, new ConsumerRebalanceListener() {
                @Override public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
                    event("revoked", consumer.assignment(), partitions);
                }

                @Override public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
                    event("assigned", consumer.assignment(), partitions);
                }
            });
            while (!quit.get()) {
                ConsumerRecords<byte[], byte[]> records = consumer.poll(Duration.ofMillis(200));
                for (ConsumerRecord<byte[], byte[]> record : records) print(record);
                out.flush();
                if (!records.isEmpty()) {
                    try {
                        consumer.commitSync();
                    } catch (KafkaException e) {
                        out.println("{\"event\":\"commit-failed\"}");
                        System.err.println(e);
                    }
                }
            }
        }
        out.println("{\"event\":\"left\"}");
    }

    /** What it owns now, and which partitions the event is about. */
    private static void event(String name, Collection<TopicPartition> assignment, Collection<TopicPartition> about) {
        ObjectNode node = JSON.createObjectNode();
        node.put("event", name);
        node.put("n", assignment.size());
        ArrayNode numbers = node.putArray("p");
        for (TopicPartition partition : about) numbers.add(partition.partition());
        out.println(node);
        out.flush();
    }
}
