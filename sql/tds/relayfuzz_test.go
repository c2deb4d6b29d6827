package tds

import (
	"bytes"
	"context"
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// FuzzRelay has hostile streams on either side. What reaches the server is the
// client's, in order, and each Write is a whole packet or frame; what reaches
// the client is the server's; and Run returns once both have ended.
func FuzzRelay(f *testing.F) {
	f.Add(bytes.Join([][]byte{request("select 1"), resetRequest("select 2"), rawPacket(Attention, EOM, nil)}, nil),
		bytes.Join([][]byte{replyPartial("row"), replyPacket("done"), replyPacket("two")}, nil), false, true)
	f.Add(smpFrame(smpData, 1, resetRequest("select 1")), smpFrame(smpData, 1, replyPacket("one")), true, true)
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"), []byte{4, 1, 0, 3}, false, false)
	f.Add(append(resetRequest("q"), 1, 1, 0x7f, 0xff), []byte{4, 0, 0, 8, 0, 0, 0, 0, 4}, false, true)
	f.Add(smpFrame(smpFin|smpSyn, 9, []byte{1}), []byte{smpID, 8, 1, 0, 16, 0, 0, 1}, true, false)
	f.Fuzz(func(t *testing.T, up, down []byte, mars, due bool) {
		client, nearClient := net.Pipe()
		servers := &fuzzServers{down: down, mars: mars}
		r := &Relay{Client: &Client{conn: nearClient}, Upstream: servers.open()}
		r.Due = func() bool { return due }
		r.Login = func(context.Context) (*Upstream, error) { return servers.open(), nil }
		var got []byte
		var ends sync.WaitGroup
		ends.Go(func() {
			for b := up; len(b) > 0; b = b[min(len(b), 700):] {
				if _, err := client.Write(b[:min(len(b), 700)]); err != nil {
					break
				}
			}
			_ = client.Close()
		})
		ends.Go(func() { got, _ = io.ReadAll(client) })
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		reason, err := r.Run(ctx)
		ends.Wait()
		servers.ends.Wait()
		if ctx.Err() != nil || reason == "" {
			t.Fatalf("Run = %q, %v; want it to end by itself, for a reason", reason, err)
		}
		sent := bytes.Join(servers.writes, nil)
		if !bytes.HasPrefix(up, sent) {
			t.Errorf("the server got %q, want a part of %q", sent, up)
		}
		for _, w := range servers.writes {
			in := &inbox{mars: mars}
			if size, err := in.size(w); err != nil || size != len(w) {
				t.Errorf("a Write of %d bytes where a packet has %d (%v)", len(w), size, err)
			}
		}
		if len(servers.writes) > 0 && r.Stats().Relogins == 0 && reason != "client broke the protocol" && !bytes.HasPrefix(down, got) {
			t.Errorf("the client got %q, want a part of %q", got, down)
		}
	})
}

// fuzzServers are servers that all send the same, and note each Write to them.
type fuzzServers struct {
	down []byte
	mars bool
	ends sync.WaitGroup

	mu     sync.Mutex // guards writes
	writes [][]byte
}

func (s *fuzzServers) open() *Upstream {
	far, near := net.Pipe()
	s.ends.Go(func() { _, _ = far.Write(s.down) })
	s.ends.Go(func() {
		defer far.Close()
		_, _ = io.Copy(io.Discard, far)
	})
	return &Upstream{PacketSize: 4096, MARS: s.mars, conn: &fuzzConn{near, s}}
}

type fuzzConn struct {
	net.Conn
	all *fuzzServers
}

func (c *fuzzConn) Write(b []byte) (int, error) {
	c.all.mu.Lock()
	c.all.writes = append(c.all.writes, bytes.Clone(b))
	c.all.mu.Unlock()
	return c.Conn.Write(b)
}
