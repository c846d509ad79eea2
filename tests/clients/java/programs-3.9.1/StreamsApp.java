// Two Kafka Streams topologies with exactly_once_v2, each a program of its own.
// Usage: StreamsApp BOOTSTRAP APPLICATION STATE-DIR REPLICATION count FROM TO
//        StreamsApp BOOTSTRAP APPLICATION STATE-DIR REPLICATION join LEFT RIGHT TO
// until stdin ends or it is killed. Nothing is cached: every update of a count comes out.

import java.time.Duration;
import java.util.Arrays;
import java.util.Locale;
import java.util.Properties;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.kstream.JoinWindows;
import org.apache.kafka.streams.kstream.KStream;

public final class StreamsApp {
    public static void main(String[] args) throws Exception {
        Properties props = new Properties();
        props.put("bootstrap.servers", args[0]);
        props.put("application.id", args[1]);
        props.put("state.dir", args[2]);
        props.put("replication.factor", args[3]);
        props.put("processing.guarantee", "exactly_once_v2");
        props.put("default.key.serde", Serdes.StringSerde.class.getName());
        props.put("default.value.serde", Serdes.StringSerde.class.getName());
        props.put("statestore.cache.max.bytes", "0");
        props.put("commit.interval.ms", "100");
        props.put("num.stream.threads", "2");
        props.put("consumer.auto.offset.reset", "earliest");
        props.put("consumer.session.timeout.ms", "6000");
        props.put("consumer.heartbeat.interval.ms", "500");
        props.put("producer.transaction.timeout.ms", "10000");
        StreamsBuilder builder = new StreamsBuilder();
        if (args[4].equals("count")) {
            builder.<String, String>stream(args[5])
                .flatMapValues(line -> Arrays.asList(line.toLowerCase(Locale.ROOT).split("\\W+")))
                .groupBy((key, word) -> word)
                .count()
                .toStream()
                .mapValues(count -> Long.toString(count))
                .to(args[6]);
        } else {
            KStream<String, String> left = builder.stream(args[5]);
            KStream<String, String> right = builder.stream(args[6]);
            left.join(right, (one, other) -> one + "+" + other, JoinWindows.ofTimeDifferenceWithNoGrace(Duration.ofHours(1)))
                .to(args[7]);
        }
        KafkaStreams streams = new KafkaStreams(builder.build(), props);
        streams.setUncaughtExceptionHandler(failed -> {
            System.err.println("replaces a thread after " + failed);
            return StreamThreadExceptionResponse.REPLACE_THREAD;
        });
        streams.setStateListener((now, before) -> System.out.println(now));
        streams.start();
        while (System.in.read() >= 0) { }
        streams.close(Duration.ofSeconds(30));
        System.out.println("left");
    }
}
