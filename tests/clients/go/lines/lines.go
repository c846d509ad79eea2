// Package lines is what the Go clients of the interop tests share: records and events as JSON lines over stdin and
// stdout (see tests/support/clients.rs).
package lines

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"log"
	"os"
	"strings"
	"sync"
)

// Record is a record as the tests write and read it.
type Record struct {
	Topic     string      `json:"t"`
	Partition int32       `json:"p"`
	Offset    int64       `json:"o"`
	Codec     string      `json:"c,omitempty"`
	Timestamp *int64      `json:"ts"`
	Key       *string     `json:"k"`
	Value     *string     `json:"v"`
	Headers   [][]*string `json:"h"`
}

// Run is the records to be written with one codec.
type Run struct {
	Codec   string
	Records []Record
}

var (
	out   = json.NewEncoder(os.Stdout)
	outMu sync.Mutex
)

// Emit prints a record or an event.
func Emit(value any) {
	outMu.Lock()
	defer outMu.Unlock()
	Check(out.Encode(value))
}

// Check ends the program on an error.
func Check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

// Data is a text's bytes; null has none.
func Data(text *string) []byte {
	if text == nil {
		return nil
	}
	return []byte(*text)
}

// Text is the reverse of Data.
func Text(data []byte) *string {
	if data == nil {
		return nil
	}
	s := string(data)
	return &s
}

// Runs reads stdin to its end: runs in the order in which their codecs first came.
func Runs() (runs []Run, count int) {
	places := map[string]int{}
	input := bufio.NewScanner(os.Stdin)
	input.Buffer(make([]byte, 1<<20), 16<<20)
	for input.Scan() {
		var r Record
		Check(json.Unmarshal(input.Bytes(), &r))
		place, known := places[r.Codec]
		if !known {
			place = len(runs)
			places[r.Codec] = place
			runs = append(runs, Run{Codec: r.Codec})
		}
		runs[place].Records = append(runs[place].Records, r)
		count++
	}
	Check(input.Err())
	return runs, count
}

// UntilStdinEnds is a context that ends when the test closes stdin.
func UntilStdinEnds() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	return ctx
}

// Options are the client's properties: what came as -X NAME=VALUE.
var Options = map[string]string{}

func takeOptions(words []string) (rest []string) {
	for i := 0; i < len(words); i++ {
		if words[i] == "-X" && i+1 < len(words) {
			i++
			name, value, _ := strings.Cut(words[i], "=")
			Options[name] = value
		} else {
			rest = append(rest, words[i])
		}
	}
	return rest
}

// Main does what the words say: write BROKERS, read BROKERS TOPIC..., or group BROKERS NAME TOPIC...
func Main(words []string, write func([]string), read func(brokers, topics []string), group func([]string, string, []string)) {
	words = takeOptions(words)
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
