// A sarama client for the interop tests: JSON lines over stdin and stdout (see tests/support/clients.rs).
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/IBM/sarama"
)

type record struct {
	Topic     string      `json:"t"`
	Partition int32       `json:"p"`
	Offset    int64       `json:"o"`
	Codec     string      `json:"c,omitempty"`
	Timestamp *int64      `json:"ts"`
	Key       *string     `json:"k"`
	Value     *string     `json:"v"`
	Headers   [][]*string `json:"h"`
}

var (
	out   = json.NewEncoder(os.Stdout)
	outMu sync.Mutex
)

func emit(value any) {
	outMu.Lock()
	defer outMu.Unlock()
	check(out.Encode(value))
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func encoder(text *string) sarama.Encoder {
	if text == nil {
		return nil
	}
	return sarama.StringEncoder(*text)
}

func text(data []byte) *string {
	if data == nil {
		return nil
	}
	s := string(data)
	return &s
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

func write(brokers []string) {
	runs := map[string][]*sarama.ProducerMessage{}
	var order []string
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(make([]byte, 1<<20), 16<<20)
	written := 0
	for lines.Scan() {
		var r record
		check(json.Unmarshal(lines.Bytes(), &r))
		m := &sarama.ProducerMessage{Topic: r.Topic, Partition: r.Partition, Key: encoder(r.Key), Value: encoder(r.Value)}
		if r.Timestamp != nil {
			m.Timestamp = time.UnixMilli(*r.Timestamp)
		}
		for _, h := range r.Headers {
			header := sarama.RecordHeader{Key: []byte(*h[0])}
			if h[1] != nil {
				header.Value = []byte(*h[1])
			}
			m.Headers = append(m.Headers, header)
		}
		if runs[r.Codec] == nil {
			order = append(order, r.Codec)
		}
		runs[r.Codec] = append(runs[r.Codec], m)
		written++
	}
	check(lines.Err())
	for _, codec := range order {
		config := newConfig()
		check(config.Producer.Compression.UnmarshalText([]byte(codec)))
		producer, err := sarama.NewSyncProducer(brokers, config)
		check(err)
		check(producer.SendMessages(runs[codec]))
		check(producer.Close())
	}
	emit(map[string]any{"event": "written", "n": written})
}

func show(m *sarama.ConsumerMessage) {
	ts := m.Timestamp.UnixMilli()
	r := record{Topic: m.Topic, Partition: m.Partition, Offset: m.Offset, Timestamp: &ts, Key: text(m.Key), Value: text(m.Value), Headers: [][]*string{}}
	for _, h := range m.Headers {
		r.Headers = append(r.Headers, []*string{text(h.Key), text(h.Value)})
	}
	emit(r)
}

func read(brokers, topics []string) {
	client, err := sarama.NewClient(brokers, newConfig())
	check(err)
	consumer, err := sarama.NewConsumerFromClient(client)
	check(err)
	for _, topic := range topics {
		partitions, err := client.Partitions(topic)
		check(err)
		for _, partition := range partitions {
			low, err := client.GetOffset(topic, partition, sarama.OffsetOldest)
			check(err)
			high, err := client.GetOffset(topic, partition, sarama.OffsetNewest)
			check(err)
			if high <= low {
				continue
			}
			pc, err := consumer.ConsumePartition(topic, partition, sarama.OffsetOldest)
			check(err)
			for offset := int64(-1); offset+1 < high; {
				select {
				case m := <-pc.Messages():
					show(m)
					offset = m.Offset
				case err := <-pc.Errors():
					check(err)
				}
			}
			check(pc.Close())
		}
	}
	emit(map[string]any{"event": "end"})
}

type handler struct{}

func (handler) Setup(session sarama.ConsumerGroupSession) error {
	n := 0
	for _, partitions := range session.Claims() {
		n += len(partitions)
	}
	emit(map[string]any{"event": "assigned", "n": n})
	return nil
}

func (handler) Cleanup(session sarama.ConsumerGroupSession) error {
	session.Commit()
	emit(map[string]any{"event": "revoked", "n": 0})
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
	check(err)
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
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
	check(consumers.Close())
	emit(map[string]any{"event": "left"})
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
		check(err)
		version = parsed
	}
	brokers := strings.Split(words[1], ",")
	switch words[0] {
	case "write":
		write(brokers)
	case "read":
		read(brokers, words[2:])
	default:
		group(brokers, words[2], words[3:])
	}
}
