// A sarama client for the interop tests: JSON lines over stdin and stdout (see tests/support/clients.rs).
package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"barnabas/tests/clients/lines"

	"github.com/IBM/sarama"
)

func encoder(text *string) sarama.Encoder {
	if text == nil {
		return nil
	}
	return sarama.StringEncoder(*text)
}

// The broker version to pretend, which decides request versions and message formats: -X version=0.10.0.0.
var version = sarama.V3_9_0_0

func newConfig() *sarama.Config {
	config := sarama.NewConfig()
	config.Version = version
	config.ClientID = "interop"
	config.Producer.RequiredAcks = sarama.WaitForAll
	config.Producer.Return.Successes = true
	config.Producer.Partitioner = sarama.NewManualPartitioner
	config.Producer.Flush.Frequency = 50 * time.Millisecond
	config.Consumer.Return.Errors = true
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	config.Consumer.Offsets.AutoCommit.Enable = false
	config.Consumer.Group.Heartbeat.Interval = 500 * time.Millisecond
	config.Consumer.Group.Rebalance.GroupStrategies = []sarama.BalanceStrategy{sarama.NewBalanceStrategyRange()}
	return config
}

func written(r lines.Record) *sarama.ProducerMessage {
	m := &sarama.ProducerMessage{Topic: r.Topic, Partition: r.Partition, Key: encoder(r.Key), Value: encoder(r.Value)}
	if r.Timestamp != nil {
		m.Timestamp = time.UnixMilli(*r.Timestamp)
	}
	for _, h := range r.Headers {
		m.Headers = append(m.Headers, sarama.RecordHeader{Key: []byte(*h[0]), Value: lines.Data(h[1])})
	}
	return m
}

func write(brokers []string) {
	runs, count := lines.Runs()
	for _, run := range runs {
		var messages []*sarama.ProducerMessage
		for _, r := range run.Records {
			messages = append(messages, written(r))
		}
		config := newConfig()
		lines.Check(config.Producer.Compression.UnmarshalText([]byte(run.Codec)))
		producer, err := sarama.NewSyncProducer(brokers, config)
		lines.Check(err)
		lines.Check(producer.SendMessages(messages))
		lines.Check(producer.Close())
	}
	lines.Emit(map[string]any{"event": "written", "n": count})
}

func show(m *sarama.ConsumerMessage) {
	ts := m.Timestamp.UnixMilli()
	r := lines.Record{Topic: m.Topic, Partition: m.Partition, Offset: m.Offset, Timestamp: &ts, Key: lines.Text(m.Key), Value: lines.Text(m.Value), Headers: [][]*string{}}
	for _, h := range m.Headers {
		r.Headers = append(r.Headers, []*string{lines.Text(h.Key), lines.Text(h.Value)})
	}
	lines.Emit(r)
}

func read(brokers, topics []string) {
	client, err := sarama.NewClient(brokers, newConfig())
	lines.Check(err)
	consumer, err := sarama.NewConsumerFromClient(client)
	lines.Check(err)
	for _, topic := range topics {
		partitions, err := client.Partitions(topic)
		lines.Check(err)
		for _, partition := range partitions {
			low, err := client.GetOffset(topic, partition, sarama.OffsetOldest)
			lines.Check(err)
			high, err := client.GetOffset(topic, partition, sarama.OffsetNewest)
			lines.Check(err)
			if high <= low {
				continue
			}
			pc, err := consumer.ConsumePartition(topic, partition, sarama.OffsetOldest)
			lines.Check(err)
			for offset := int64(-1); offset+1 < high; {
				select {
				case m := <-pc.Messages():
					show(m)
					offset = m.Offset
				case err := <-pc.Errors():
					lines.Check(err)
				}
			}
			lines.Check(pc.Close())
		}
	}
	lines.Emit(map[string]any{"event": "end"})
}

type handler struct{}

func (handler) Setup(session sarama.ConsumerGroupSession) error {
	n := 0
	for _, partitions := range session.Claims() {
		n += len(partitions)
	}
	lines.Emit(map[string]any{"event": "assigned", "n": n})
	return nil
}

func (handler) Cleanup(session sarama.ConsumerGroupSession) error {
	session.Commit()
	lines.Emit(map[string]any{"event": "revoked", "n": 0})
	return nil
}

func (handler) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for {
		select {
		case m, ok := <-claim.Messages():
			if !ok {
				return nil
			}
			show(m)
			session.MarkMessage(m, "")
			if len(claim.Messages()) == 0 {
				session.Commit()
			}
		case <-session.Context().Done():
			return nil
		}
	}
}

func group(brokers []string, name string, topics []string) {
	consumers, err := sarama.NewConsumerGroup(brokers, name, newConfig())
	lines.Check(err)
	ctx := lines.UntilStdinEnds()
	go func() {
		for err := range consumers.Errors() {
			fmt.Fprintln(os.Stderr, err)
		}
	}()
	for ctx.Err() == nil {
		if err := consumers.Consume(ctx, topics, handler{}); err != nil && !errors.Is(err, sarama.ErrClosedConsumerGroup) {
			fmt.Fprintln(os.Stderr, err)
			time.Sleep(200 * time.Millisecond)
		}
	}
	lines.Check(consumers.Close())
	lines.Emit(map[string]any{"event": "left"})
}

func main() {
	var words []string
	for i := 1; i < len(os.Args); i++ {
		if os.Args[i] != "-X" {
			words = append(words, os.Args[i])
			continue
		}
		i++
		parsed, err := sarama.ParseKafkaVersion(strings.TrimPrefix(os.Args[i], "version="))
		lines.Check(err)
		version = parsed
	}
	lines.Main(words, write, read, group)
}
