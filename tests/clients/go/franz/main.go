// A franz-go client for the interop tests: JSON lines over stdin and stdout (see tests/support/clients.rs).
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"barnabas/tests/clients/lines"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

var codecs = map[string]kgo.CompressionCodec{
	"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
	"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
}

func newClient(brokers []string, more ...kgo.Opt) *kgo.Client {
	client, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(brokers...), kgo.ClientID("interop")}, more...)...)
	lines.Check(err)
	return client
}

func written(r lines.Record) *kgo.Record {
	m := &kgo.Record{Topic: r.Topic, Partition: r.Partition, Key: lines.Data(r.Key), Value: lines.Data(r.Value)}
	if r.Timestamp != nil {
		m.Timestamp = time.UnixMilli(*r.Timestamp)
	}
	for _, h := range r.Headers {
		m.Headers = append(m.Headers, kgo.RecordHeader{Key: *h[0], Value: lines.Data(h[1])})
	}
	return m
}

func write(brokers []string) {
	runs, count := lines.Runs()
	for _, run := range runs {
		var records []*kgo.Record
		for _, r := range run.Records {
			records = append(records, written(r))
		}
		client := newClient(brokers, kgo.ProducerBatchCompression(codecs[run.Codec]), kgo.RecordPartitioner(kgo.ManualPartitioner()),
			kgo.ProducerLinger(50*time.Millisecond))
		lines.Check(client.ProduceSync(context.Background(), records...).FirstErr())
		client.Close()
	}
	lines.Emit(map[string]any{"event": "written", "n": count})
}

func show(m *kgo.Record) {
	ts := m.Timestamp.UnixMilli()
	r := lines.Record{Topic: m.Topic, Partition: m.Partition, Offset: m.Offset, Timestamp: &ts, Key: lines.Text(m.Key), Value: lines.Text(m.Value), Headers: [][]*string{}}
	for _, h := range m.Headers {
		key := h.Key
		r.Headers = append(r.Headers, []*string{&key, lines.Text(h.Value)})
	}
	lines.Emit(r)
}

func read(brokers, topics []string) {
	ctx := context.Background()
	probe := newClient(brokers)
	admin := kadm.NewClient(probe)
	starts, err := admin.ListStartOffsets(ctx, topics...)
	lines.Check(err)
	ends, err := admin.ListEndOffsets(ctx, topics...)
	lines.Check(err)
	probe.Close()
	left := map[string]map[int32]int64{}
	n := 0
	ends.Each(func(end kadm.ListedOffset) {
		lines.Check(end.Err)
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
		lines.Check(fetches.Err())
		fetches.EachRecord(func(m *kgo.Record) {
			show(m)
			if end, waiting := left[m.Topic][m.Partition]; waiting && m.Offset+1 >= end {
				delete(left[m.Topic], m.Partition)
				n--
			}
		})
	}
	lines.Emit(map[string]any{"event": "end"})
}

func group(brokers []string, name string, topics []string) {
	owned, ownedMu := 0, sync.Mutex{}
	change := func(event string, sign int) func(context.Context, *kgo.Client, map[string][]int32) {
		return func(_ context.Context, _ *kgo.Client, partitions map[string][]int32) {
			ownedMu.Lock()
			defer ownedMu.Unlock()
			which := []int32{}
			for _, p := range partitions {
				owned += sign * len(p)
				which = append(which, p...)
			}
			lines.Emit(map[string]any{"event": event, "n": owned, "p": which})
		}
	}
	balancer := kgo.RangeBalancer()
	if lines.Options["partition.assignment.strategy"] == "cooperative-sticky" {
		balancer = kgo.CooperativeStickyBalancer()
	}
	options := []kgo.Opt{kgo.ConsumerGroup(name), kgo.ConsumeTopics(topics...), kgo.DisableAutoCommit(),
		kgo.BlockRebalanceOnPoll(), kgo.Balancers(balancer), kgo.HeartbeatInterval(500 * time.Millisecond),
		kgo.SessionTimeout(10 * time.Second), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.OnPartitionsAssigned(change("assigned", 1)), kgo.OnPartitionsRevoked(change("revoked", -1)),
		kgo.OnPartitionsLost(change("lost", -1))}
	if id, ok := lines.Options["group.instance.id"]; ok {
		options = append(options, kgo.InstanceID(id))
	}
	client := newClient(brokers, options...)
	ctx := lines.UntilStdinEnds()
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
				lines.Emit(map[string]any{"event": "commit-failed", "why": err.Error()})
			}
		}
		client.AllowRebalance()
	}
	client.CloseAllowingRebalance()
	lines.Emit(map[string]any{"event": "left"})
}

func main() {
	lines.Main(os.Args[1:], write, read, group)
}
