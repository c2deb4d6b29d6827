package tds

import (
	"bytes"
	"io"
	"net"
	"testing"
)

// What crypto/tls allocates for its records is its own affair.
func TestPassingPacketsLeavesNoGarbage(t *testing.T) {
	g := newTCPRig(t, nil)
	const packets = 300
	large := rawPacket(Bulk, 0, make([]byte, 4088))
	load := append(bytes.Repeat(large, packets-1), request("the last")...)
	result := append(bytes.Repeat(replyPartial(string(make([]byte, 4088))), packets-1), replyPacket("the last")...)
	for _, c := range []struct {
		what        string
		there, back []byte
		most        float64 // a pool may lose a buffer now and then
	}{
		{"a small batch", request("select 1"), replyPacket("one"), 0},
		{"a bulk load", load, replyPacket("done"), packets / 60},
		{"a result", request("select everything"), result, packets / 60},
	} {
		if n := testing.AllocsPerRun(20, carried(t, g.client, g.server, c.there, c.back)); n > c.most {
			t.Errorf("allocations for %s = %v, want %v at most", c.what, n, c.most)
		}
	}
	_ = g.client.Close()
	g.wantEnd(t, "client closed", nil)
}

// carried has there pass to the server and back to the client, one exchange for
// each call.
func carried(t *testing.T, client, server net.Conn, there, back []byte) func() {
	send, sent := make(chan struct{}), make(chan error)
	var to net.Conn
	var what []byte
	go func() {
		for range send {
			_, err := to.Write(what)
			sent <- err
		}
	}()
	t.Cleanup(func() { close(send) })
	got := make([]byte, max(len(there), len(back)))
	return func() {
		for _, w := range []struct {
			from, at net.Conn
			b        []byte
		}{{client, server, there}, {server, client, back}} {
			to, what = w.from, w.b
			send <- struct{}{}
			if _, err := io.ReadFull(w.at, got[:len(w.b)]); err != nil {
				t.Error(err)
			}
			if err := <-sent; err != nil {
				t.Error(err)
			}
		}
	}
}
