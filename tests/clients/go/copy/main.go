// Consumes, transforms and produces in transactions, as tests/clients/java/programs-3.9.1/CopyLoop.java does.
// Usage: copy BOOTSTRAP GROUP TRANSACTIONAL-ID FROM TO ABORT-EACH, until stdin ends or it is killed.
package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"barnabas/tests/clients/lines"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Copies until the context ends, or until the session can no longer go on.
func run(ctx context.Context, args []string, abortEach int) error {
	session, err := kgo.NewGroupTransactSession(
		kgo.SeedBrokers(strings.Split(args[0], ",")...), kgo.ConsumerGroup(args[1]), kgo.TransactionalID(args[2]),
		kgo.ConsumeTopics(args[3]), kgo.DefaultProduceTopic(args[4]), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.RequireStableFetchOffsets(), kgo.TransactionTimeout(10*time.Second), kgo.SessionTimeout(6*time.Second),
		kgo.HeartbeatInterval(500*time.Millisecond), kgo.RetryTimeout(20*time.Second),
	)
	if err != nil {
		return err
	}
	defer session.Close()
	for number := 1; ctx.Err() == nil; {
		wait, done := context.WithTimeout(ctx, 200*time.Millisecond)
		fetches := session.PollRecords(wait, 50)
		done()
		if fetches.NumRecords() == 0 {
			continue
		}
		if err := session.Begin(); err != nil {
			return err
		}
		failed := kgo.AbortingFirstErrPromise(session.Client())
		fetches.EachRecord(func(r *kgo.Record) {
			session.Produce(context.Background(), &kgo.Record{Partition: r.Partition, Key: r.Key, Value: r.Value}, failed.Promise())
		})
		abort := abortEach > 0 && number%abortEach == 0
		number++
		committed, err := session.End(context.Background(), kgo.TransactionEndTry(failed.Err() == nil && !abort))
		if err != nil {
			return err
		}
		if committed {
			fmt.Println("committed", fetches.NumRecords())
		} else {
			fmt.Println("aborted", fetches.NumRecords())
		}
	}
	return nil
}

func main() {
	ctx := lines.UntilStdinEnds()
	abortEach, err := strconv.Atoi(os.Args[6])
	lines.Check(err)
	for ctx.Err() == nil {
		// A session that failed for good is replaced, as an application would be restarted.
		if err := run(ctx, os.Args[1:], abortEach); err != nil {
			fmt.Fprintln(os.Stderr, "begins anew after", err)
			time.Sleep(100 * time.Millisecond)
		}
	}
	fmt.Println("left")
}
