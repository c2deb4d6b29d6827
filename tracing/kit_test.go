package tracing_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/seed-13b04e61/gateway/tracing"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// collector takes what is exported.
type collector struct {
	*httptest.Server
	mu      sync.Mutex // guards what follows
	answers []answer   // the next ones; 200 and nothing after them
	batches []batch
}

type answer struct {
	status int
	header http.Header
	body   []byte
}

type batch struct {
	path   string
	header http.Header
	data   *tracepb.TracesData
	raw    []byte // uncompressed
}

func newCollector(t *testing.T, answers ...answer) *collector {
	c := &collector{answers: answers}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := io.Reader(r.Body)
		if r.Header.Get("Content-Encoding") == "gzip" {
			z, err := gzip.NewReader(r.Body)
			if err != nil {
				t.Error(err)
				return
			}
			body = z
		}
		raw, err := io.ReadAll(body)
		data := &tracepb.TracesData{}
		if err == nil {
			err = proto.Unmarshal(raw, data)
		}
		if err != nil {
			t.Error(err)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.batches = append(c.batches, batch{r.URL.Path, r.Header, data, raw})
		if len(c.answers) > 0 {
			a := c.answers[0]
			c.answers = c.answers[1:]
			for name, values := range a.header {
				w.Header()[name] = values
			}
			w.WriteHeader(a.status)
			_, _ = w.Write(a.body)
		}
	}))
	t.Cleanup(c.Close)
	return c
}

// got are the batches so far.
func (c *collector) got() []batch {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]batch(nil), c.batches...)
}

// spans are all that came, by name.
func (c *collector) spans() map[string][]*tracepb.Span {
	all := map[string][]*tracepb.Span{}
	for _, b := range c.got() {
		for _, r := range b.data.ResourceSpans {
			for _, s := range r.ScopeSpans {
				for _, span := range s.Spans {
					all[span.Name] = append(all[span.Name], span)
				}
			}
		}
	}
	return all
}

// values are attributes as Go has them.
func values(list []*commonpb.KeyValue) map[string]any {
	all := map[string]any{}
	for _, kv := range list {
		switch v := kv.Value.Value.(type) {
		case *commonpb.AnyValue_StringValue:
			all[kv.Key] = v.StringValue
		case *commonpb.AnyValue_IntValue:
			all[kv.Key] = v.IntValue
		case *commonpb.AnyValue_BoolValue:
			all[kv.Key] = v.BoolValue
		case *commonpb.AnyValue_DoubleValue:
			all[kv.Key] = v.DoubleValue
		default:
			all[kv.Key] = fmt.Sprintf("a %T", v)
		}
	}
	return all
}

// book is a log.
type book struct {
	mu   sync.Mutex // guards what follows
	b    bytes.Buffer
	lost int // spans that were counted
}

func (k *book) lose(n int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.lost += n
}

func (k *book) Info(msg string, kv ...any) { k.add("info", msg, kv) }
func (k *book) Warn(msg string, kv ...any) { k.add("warn", msg, kv) }
func (k *book) add(level, msg string, kv []any) {
	k.mu.Lock()
	defer k.mu.Unlock()
	fmt.Fprintln(&k.b, level, msg, fmt.Sprintf("%+v", kv))
}

func (k *book) String() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.b.String()
}

// environment looks variables up.
func environment(vars map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) { value, ok := vars[name]; return value, ok }
}

// begin starts traces by vars, and returns what ends them.
func begin(t *testing.T, vars map[string]string) (traces *tracing.Traces, log *book, end func()) {
	t.Helper()
	s, err := tracing.Read(environment(vars))
	if err != nil || s == nil {
		t.Fatalf("Read = %v, %v, want settings", s, err)
	}
	log = &book{}
	traces, err = tracing.New(tracing.Config{Settings: s, Dialer: &net.Dialer{}, Log: log, Lost: log.lose, Version: "v1"})
	if err != nil {
		t.Fatal(err)
	}
	end = sync.OnceFunc(func() {
		if err := traces.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(end)
	return traces, log, end
}
