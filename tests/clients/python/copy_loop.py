"""Consumes, transforms and produces in transactions by librdkafka, as ../java/programs-3.9.1/CopyLoop.java does.

Usage: copy_loop.py BOOTSTRAP GROUP TRANSACTIONAL-ID FROM TO ABORT-EACH, until stdin ends or it is killed.
"""

import sys
import threading

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

over = threading.Event()


def copy(bootstrap, group, transactional_id, source, target, abort_each):
    consumer = Consumer({
        "bootstrap.servers": bootstrap, "group.id": group, "isolation.level": "read_committed",
        "enable.auto.commit": False, "auto.offset.reset": "earliest", "session.timeout.ms": 6000,
        "heartbeat.interval.ms": 500, "reconnect.backoff.max.ms": 200,
    })
    producer = Producer({
        "bootstrap.servers": bootstrap, "transactional.id": transactional_id, "transaction.timeout.ms": 10000,
        "linger.ms": 5, "reconnect.backoff.max.ms": 200,
    })
    try:
        producer.init_transactions(20)
        consumer.subscribe([source])
        number = 1
        while not over.is_set():
            messages = [m for m in consumer.consume(50, 0.2) if m.error() is None]
            if not messages:
                continue
            producer.begin_transaction()
            firsts, lasts = {}, {}
            for m in messages:
                producer.produce(target, key=m.key(), value=m.value(), partition=m.partition())
                firsts.setdefault(m.partition(), m.offset())
                lasts[m.partition()] = m.offset() + 1
            abort = abort_each > 0 and number % abort_each == 0
            number += 1
            try:
                if abort:
                    producer.flush(20)
                    producer.abort_transaction(20)
                else:
                    offsets = [TopicPartition(source, p, o) for p, o in lasts.items()]
                    producer.send_offsets_to_transaction(offsets, consumer.consumer_group_metadata(), 20)
                    producer.commit_transaction(20)
            except KafkaException as failed:
                if not failed.args[0].txn_requires_abort():
                    raise
                producer.abort_transaction(20)
                abort = True
            if abort:
                for partition, offset in firsts.items():
                    try:
                        consumer.seek(TopicPartition(source, partition, offset))
                    except KafkaException:
                        pass  # It has gone to another member, which begins where the last commit was.
            print("aborted" if abort else "committed", len(messages), flush=True)
    finally:
        consumer.close()


def main():
    def watch():
        sys.stdin.read()
        over.set()

    threading.Thread(target=watch, daemon=True).start()
    *words, abort_each = sys.argv[1:]
    while not over.is_set():
        # What failed for good is replaced, as an application would be restarted.
        try:
            copy(*words, int(abort_each))
        except KafkaException as failed:
            print("begins anew after", failed, file=sys.stderr, flush=True)
            over.wait(0.1)
    print("left", flush=True)


main()
