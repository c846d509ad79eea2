"""A confluent-kafka client for the interop tests: JSON lines over stdin and stdout (see tests/support/clients.rs)."""

import json
import sys
import threading

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, Producer, TopicPartition


def emit(value):
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def encode(text):
    return None if text is None else text.encode()


def decode(data):
    return None if data is None else data.decode()


def write(conf):
    producers, failures, written = {}, [], 0

    def delivered(error, _message):
        if error is not None:
            failures.append(str(error))

    for line in sys.stdin:
        record = json.loads(line)
        codec = record["c"]
        if codec not in producers:
            producers[codec] = Producer({"linger.ms": 50, **conf, "compression.type": codec})
        extra = {} if record.get("ts") is None else {"timestamp": record["ts"]}
        producers[codec].produce(
            record["t"],
            partition=record["p"],
            key=encode(record["k"]),
            value=encode(record["v"]),
            headers=[(name, encode(value)) for name, value in record["h"]],
            on_delivery=delivered,
            **extra,
        )
        written += 1
    for producer in producers.values():
        if producer.flush(60) != 0:
            failures.append("records left in the queue")
    if failures:
        sys.exit(f"{len(failures)} not delivered, first: {failures[0]}")
    emit({"event": "written", "n": written})


def show(message):
    headers = [[name, decode(value)] for name, value in message.headers() or []]
    emit({
        "t": message.topic(), "p": message.partition(), "o": message.offset(), "ts": message.timestamp()[1],
        "k": decode(message.key()), "v": decode(message.value()), "h": headers,
    })


def read(conf, topics):
    consumer = Consumer({**conf, "group.id": "unused", "enable.auto.commit": False})
    left = {}
    for topic in topics:
        for partition in consumer.list_topics(topic, timeout=30).topics[topic].partitions:
            low, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=30)
            if high > low:
                left[(topic, partition)] = high
    consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for topic, partition in left])
    while left:
        for message in consumer.consume(500, timeout=0.5):
            if message.error():
                raise KafkaException(message.error())
            show(message)
            key = (message.topic(), message.partition())
            if key in left and message.offset() + 1 >= left[key]:
                del left[key]
    consumer.close()
    emit({"event": "end"})


def group(conf, name, topics):
    quit_asked = threading.Event()

    def watch():
        sys.stdin.read()
        quit_asked.set()

    threading.Thread(target=watch, daemon=True).start()
    consumer = Consumer({
        "auto.offset.reset": "earliest", "heartbeat.interval.ms": 500, "session.timeout.ms": 10000,
        **conf, "group.id": name, "enable.auto.commit": False,
    })
    consumer.subscribe(
        topics,
        on_assign=lambda _consumer, partitions: emit({"event": "assigned", "n": len(partitions)}),
        on_revoke=lambda _consumer, partitions: emit({"event": "revoked", "n": len(partitions)}),
    )
    while not quit_asked.is_set():
        messages = consumer.consume(500, timeout=0.2)
        last = {}
        for message in messages:
            if message.error():
                raise KafkaException(message.error())
            show(message)
            last[(message.topic(), message.partition())] = message.offset() + 1
        if last:
            try:
                consumer.commit(offsets=[TopicPartition(t, p, o) for (t, p), o in last.items()], asynchronous=False)
            except KafkaException as error:
                emit({"event": "commit-failed", "why": str(error)})
    consumer.close()
    emit({"event": "left"})


def main():
    arguments, conf = [], {}
    words = iter(sys.argv[1:])
    for word in words:
        if word == "-X":
            key, value = next(words).split("=", 1)
            conf[key] = value
        else:
            arguments.append(word)
    conf["bootstrap.servers"] = arguments[1]
    mode = arguments[0]
    if mode == "write":
        write(conf)
    elif mode == "read":
        read(conf, arguments[2:])
    else:
        group(conf, arguments[2], arguments[3:])


main()
