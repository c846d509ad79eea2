// Consumes, transforms and produces in transactions: each record of one topic goes to the same partition of another, with
// its offset in the same transaction. Every so many transactions one is aborted and done again.
// Usage: CopyLoop BOOTSTRAP GROUP TRANSACTIONAL-ID FROM TO ABORT-EACH, until stdin ends or it is killed.

import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

public final class CopyLoop {
    public static void main(String[] args) throws Exception {
        boolean[] over = {false};
        Thread watcher = new Thread(() -> {
            try {
                while (System.in.read() >= 0) { }
            } catch (java.io.IOException ended) {
                // As good as the end.
            }
            synchronized (over) {
                over[0] = true;
            }
        });
        watcher.setDaemon(true);
        watcher.start();
        while (!ended(over)) {
            // A producer or consumer that failed for good is replaced, as an application would be restarted.
            try {
                run(args, over);
            } catch (KafkaException failed) {
                System.err.println("begins anew after " + failed);
            }
        }
        System.out.println("left");
    }

    private static boolean ended(boolean[] over) {
        synchronized (over) {
            return over[0];
        }
    }

    private static void run(String[] args, boolean[] over) {
        int abortEach = Integer.parseInt(args[5]);
        Properties common = new Properties();
        common.put("bootstrap.servers", args[0]);
        common.put("key.serializer", StringSerializer.class.getName());
        common.put("value.serializer", StringSerializer.class.getName());
        common.put("key.deserializer", StringDeserializer.class.getName());
        common.put("value.deserializer", StringDeserializer.class.getName());
        common.put("group.id", args[1]);
        common.put("isolation.level", "read_committed");
        common.put("enable.auto.commit", "false");
        common.put("auto.offset.reset", "earliest");
        common.put("session.timeout.ms", "6000");
        common.put("heartbeat.interval.ms", "500");
        common.put("max.poll.records", "50");
        common.put("transactional.id", args[2]);
        common.put("transaction.timeout.ms", "10000");
        common.put("max.block.ms", "20000");
        common.put("delivery.timeout.ms", "20000");
        common.put("request.timeout.ms", "5000");
        common.put("linger.ms", "5");
        try (KafkaConsumer<String, String> consumer = new KafkaConsumer<>(common);
             KafkaProducer<String, String> producer = new KafkaProducer<>(common)) {
            producer.initTransactions();
            consumer.subscribe(List.of(args[3]));
            for (long number = 1; !ended(over); ) {
                ConsumerRecords<String, String> records = consumer.poll(Duration.ofMillis(200));
                if (records.isEmpty()) {
                    continue;
                }
                producer.beginTransaction();
                Map<TopicPartition, OffsetAndMetadata> offsets = new HashMap<>();
                for (ConsumerRecord<String, String> record : records) {
                    producer.send(new ProducerRecord<>(args[4], record.partition(), record.key(), record.value()));
                    offsets.put(new TopicPartition(record.topic(), record.partition()), new OffsetAndMetadata(record.offset() + 1));
                }
                if (abortEach > 0 && number++ % abortEach == 0) {
                    producer.flush();
                    producer.abortTransaction();
                    rewind(consumer, records);
                    System.out.println("aborted " + records.count());
                    continue;
                }
                producer.sendOffsetsToTransaction(offsets, consumer.groupMetadata());
                producer.commitTransaction();
                System.out.println("committed " + records.count());
            }
        }
    }

    private static void rewind(KafkaConsumer<String, String> consumer, ConsumerRecords<String, String> records) {
        for (TopicPartition partition : records.partitions()) {
            consumer.seek(partition, records.records(partition).get(0).offset());
        }
    }
}
