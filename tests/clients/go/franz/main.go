// A franz-go client for the interop tests: JSON lines over stdin and stdout (see tests/support/clients.rs).
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

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
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
	out    = json.NewEncoder(os.Stdout)
	outMu  sync.Mutex
	codecs = map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
		"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	}
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

func data(text *string) []byte {
	if text == nil {
		return nil
	}
	return []byte(*text)
}

func text(data []byte) *string {
	if data == nil {
		return nil
	}
	s := string(data)
	return &s
}

func newClient(brokers []string, more ...kgo.Opt) *kgo.Client {
	client, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(brokers...), kgo.ClientID("interop")}, more...)...)
	check(err)
	return client
}

func write(brokers []string) {
	runs := map[string][]*kgo.Record{}
	var order []string
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(make([]byte, 1<<20), 16<<20)
	written := 0
	for lines.Scan() {
		var r record
		check(json.Unmarshal(lines.Bytes(), &r))
		m := &kgo.Record{Topic: r.Topic, Partition: r.Partition, Key: data(r.Key), Value: data(r.Value)}
		if r.Timestamp != nil {
			m.Timestamp = time.UnixMilli(*r.Timestamp)
		}
		for _, h := range r.Headers {
			m.Headers = append(m.Headers, kgo.RecordHeader{Key: *h[0], Value: data(h[1])})
		}
		if runs[r.Codec] == nil {
			order = append(order, r.Codec)
		}
		runs[r.Codec] = append(runs[r.Codec], m)
		written++
	}
	check(lines.Err())
	for _, codec := range order {
		client := newClient(brokers, kgo.ProducerBatchCompression(codecs[codec]), kgo.RecordPartitioner(kgo.ManualPartitioner()),
			kgo.ProducerLinger(50*time.Millisecond))
		check(client.ProduceSync(context.Background(), runs[codec]...).FirstErr())
		client.Close()
	}
	emit(map[string]any{"event": "written", "n": written})
}

func show(m *kgo.Record) {
	ts := m.Timestamp.UnixMilli()
	r := record{Topic: m.Topic, Partition: m.Partition, Offset: m.Offset, Timestamp: &ts, Key: text(m.Key), Value: text(m.Value), Headers: [][]*string{}}
	for _, h := range m.Headers {
		key := h.Key
		r.Headers = append(r.Headers, []*string{&key, text(h.Value)})
	}
	emit(r)
}

func read(brokers, topics []string) {
	ctx := context.Background()
	probe := newClient(brokers)
	admin := kadm.NewClient(probe)
	starts, err := admin.ListStartOffsets(ctx, topics...)
	check(err)
	ends, err := admin.ListEndOffsets(ctx, topics...)
	check(err)
	probe.Close()
	left := map[string]map[int32]int64{}
	n := 0
	ends.Each(func(end kadm.ListedOffset) {
		check(end.Err)
		start, _ := starts.Lookup(end.Topic, end.Partition)
		if end.Offset > start.Offset {
			if left[end.Topic] == nil {
				left[end.Topic] = map[int32]int64{}
			}
			left[end.Topic][end.Partition] = end.Offset
			n++
		}
	})
	client := newClient(brokers, kgo.ConsumeTopics(topics...), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	defer client.Close()
	for n > 0 {
		fetches := client.PollFetches(ctx)
		check(fetches.Err())
		fetches.EachRecord(func(m *kgo.Record) {
			show(m)
			if end, waiting := left[m.Topic][m.Partition]; waiting && m.Offset+1 >= end {
				delete(left[m.Topic], m.Partition)
				n--
			}
		})
	}
	emit(map[string]any{"event": "end"})
}

func group(brokers []string, name string, topics []string) {
	owned, ownedMu := 0, sync.Mutex{}
	change := func(event string, sign int) func(context.Context, *kgo.Client, map[string][]int32) {
		return func(_ context.Context, _ *kgo.Client, partitions map[string][]int32) {
			ownedMu.Lock()
			defer ownedMu.Unlock()
			for _, p := range partitions {
				owned += sign * len(p)
			}
			emit(map[string]any{"event": event, "n": owned})
		}
	}
	client := newClient(brokers, kgo.ConsumerGroup(name), kgo.ConsumeTopics(topics...), kgo.DisableAutoCommit(),
		kgo.BlockRebalanceOnPoll(), kgo.Balancers(kgo.RangeBalancer()), kgo.HeartbeatInterval(500*time.Millisecond),
		kgo.SessionTimeout(10*time.Second), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.OnPartitionsAssigned(change("assigned", 1)), kgo.OnPartitionsRevoked(change("revoked", -1)),
		kgo.OnPartitionsLost(change("lost", -1)))
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	for ctx.Err() == nil {
		wait, done := context.WithTimeout(ctx, 200*time.Millisecond)
		fetches := client.PollFetches(wait)
		done()
		fetches.EachError(func(topic string, partition int32, err error) {
			if !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled) {
				fmt.Fprintln(os.Stderr, topic, partition, err)
			}
		})
		fetches.EachRecord(show)
		if fetches.NumRecords() > 0 {
			if err := client.CommitUncommittedOffsets(context.Background()); err != nil {
				emit(map[string]any{"event": "commit-failed", "why": err.Error()})
			}
		}
		client.AllowRebalance()
	}
	client.CloseAllowingRebalance()
	emit(map[string]any{"event": "left"})
}

func main() {
	brokers := strings.Split(os.Args[2], ",")
	switch os.Args[1] {
	case "write":
		write(brokers)
	case "read":
		read(brokers, os.Args[3:])
	default:
		group(brokers, os.Args[3], os.Args[4:])
	}
}
