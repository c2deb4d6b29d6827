package tds

import (
	"bytes"
	"context"
	"errors"
	"net"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// relayed is a test in a bubble, with a relay between a client and a server.
func relayed(t *testing.T, change func(*rig), test func(*rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, change)
		g.t = t
		test(g)
	})
}

func TestEachPacketOfTheClientGoesOnInOneWrite(t *testing.T) {
	packets := [][]byte{
		request("select 1"), rawPacket(RPC, 0, bytes.Repeat([]byte("a"), 4088)), rawPacket(RPC, EOM, []byte("z")),
		rawPacket(Bulk, EOM, bytes.Repeat([]byte("b"), MaxPacket-HeaderSize)), rawPacket(Attention, EOM, nil),
		rawPacket(TransactionManager, EOM, bytes.Repeat([]byte("c"), 600)),
	}
	stream := bytes.Join(slices.Concat(packets, packets), nil)
	for _, size := range []int{1, 7, 8, 9, 511, 512, 513, 5000, len(stream)} {
		relayed(t, nil, func(g *rig) {
			for b := range slices.Chunk(stream, size) {
				g.client.send(b)
			}
			if got, want := g.server.writes, slices.Concat(packets, packets); !slices.EqualFunc(got, want, bytes.Equal) {
				t.Fatalf("in pieces of %d bytes, the server sees %d writes, want %d, each a packet", size, len(got), len(want))
			}
			if s := g.Stats(); s.BytesIn != int64(len(stream)) || s.Requests != 8 {
				t.Errorf("Stats() = %+v, want %d bytes in, 8 requests", s, len(stream))
			}
		})
	}
}

func TestEachFrameOfMARSGoesOnInOneWrite(t *testing.T) {
	frames := [][]byte{
		smpFrame(smpSyn, 0, nil), smpFrame(smpData, 0, request("select 1")), smpFrame(2, 0, nil), smpFrame(smpSyn, 7, nil),
		smpFrame(smpData, 7, rawPacket(RPC, EOM|ResetConnection, make([]byte, MaxPacket-HeaderSize))), smpFrame(smpFin, 0, nil),
	}
	stream := bytes.Join(frames, nil)
	for _, size := range []int{1, 15, 16, 17, 5000, len(stream)} {
		relayed(t, func(g *rig) { g.Upstream.MARS = true }, func(g *rig) {
			for b := range slices.Chunk(stream, size) {
				g.client.send(b)
			}
			if got := g.server.writes; !slices.EqualFunc(got, frames, bytes.Equal) {
				t.Fatalf("in pieces of %d bytes, the server sees %d writes, want %d, each a frame", size, len(got), len(frames))
			}
			if got := g.Stats().Requests; got != 2 {
				t.Errorf("Stats().Requests = %d, want 2", got)
			}
		})
	}
}

func TestBytesOfTheServerPassAsTheyCome(t *testing.T) {
	relayed(t, nil, func(g *rig) {
		g.client.send(request("select 1"))
		stream := slices.Concat(replyPartial("rows"), rawPacket(Reply, 0, make([]byte, 20000)), replyPacket("done"))
		for b := range slices.Chunk(stream, 5) {
			g.server.send(b)
			g.client.want("piece", b)
		}
		if got := g.Stats().BytesOut; got != int64(len(stream)) {
			t.Errorf("Stats().BytesOut = %d, want %d", got, len(stream))
		}
	})
}

func TestNoMoreIsHeldThanABufferWhileAnEndStalls(t *testing.T) {
	const most = relayBuffer + relaySmaller
	for _, stalled := range []string{"client", "server"} {
		synctest.Test(t, func(t *testing.T) {
			g := newRig(t, func(g *rig) {
				end, near := newEnd(t, true)
				if stalled == "client" {
					g.client, g.Client.conn = end, near
				} else {
					g.server, g.Upstream.conn = end, near
				}
			})
			from, packet := g.client, rawPacket(Bulk, 0, make([]byte, 4088))
			if stalled == "client" {
				from, packet = g.server, replyPartial(string(make([]byte, 4088)))
			}
			taken := 0
			_ = from.SetWriteDeadline(time.Now().Add(time.Minute))
			for {
				n, err := from.Write(packet)
				taken += n
				if err != nil {
					break
				}
			}
			if taken > most {
				t.Errorf("with a stalled %s %d bytes are taken, want at most %d", stalled, taken, most)
			}
			g.cancel()
			g.wantEnd("cut off", false)
		})
	}
}

func TestABufferIsHeldOnlyWhileSomethingPasses(t *testing.T) {
	in := &inbox{}
	defer in.release()
	far, near := newEnd(t, true)
	in.conn = near
	for _, size := range []int{20000, 100} {
		go func() { _, _ = far.Write(rawPacket(Bulk, EOM, make([]byte, size))) }()
		b, err := in.next(false)
		if err != nil || len(b) != size+HeaderSize {
			t.Fatalf("next() = %d bytes, %v; want %d", len(b), err, size+HeaderSize)
		}
	}
	if in.big != nil {
		t.Error("the large buffer is still held for a small packet")
	}
}

func TestWhatIsNoPacketCutsTheClientOffInWords(t *testing.T) {
	for name, b := range map[string][]byte{
		"HTTP":           []byte("GET / HTTP/1.1\r\n\r\n"),
		"a short length": {byte(Batch), EOM, 0, 7, 0, 0, 1, 0},
		"a long length":  {byte(Batch), EOM, 0x80, 0, 0, 0, 1, 0},
		"a second login": rawPacket(Login7, EOM, make([]byte, 94)),
		"a TLS record":   rawPacket(0x16, EOM, make([]byte, 94)),
		"a token":        rawPacket(0x08, EOM, make([]byte, 94)),
	} {
		relayed(t, nil, func(g *rig) {
			g.exchange(g.server, request("select 1"), replyPacket("one"))
			g.client.send(b)
			g.server.want("what came of " + name)
			g.server.wantOpen("server after "+name, false)
			h, payload, err := ReadMessage(bytes.NewReader(g.client.got), 1<<16, Reply)
			if err != nil || h.SPID != 51 {
				t.Fatalf("%s: the client hears %q (%+v, %v), want a reply", name, g.client.got, h, err)
			}
			tokens, err := SplitTokens(payload)
			if err != nil {
				t.Fatal(err)
			}
			said, err := ParseServerError(tokens[0])
			if err != nil || said.Number != 4002 || said.Class != 20 {
				t.Errorf("%s: the client hears %v, %v; want error 4002", name, said, err)
			}
			g.wantEnd("client broke the protocol", false)
		})
	}
}

func TestNothingIsSaidInTheMidstOfAReply(t *testing.T) {
	relayed(t, nil, func(g *rig) {
		g.client.send(request("select 1"))
		g.server.send(replyPartial("row"))
		g.client.want("reply so far", replyPartial("row"))
		g.client.send([]byte("GET / HTTP/1.1\r\n\r\n"))
		g.client.want("what follows it")
		g.wantEnd("client broke the protocol", false)
	})
}

func TestAnOversizedFrameCutsTheClientOff(t *testing.T) {
	for name, b := range map[string][]byte{
		"oversized": append([]byte{smpID, smpData, 0, 0}, 0, 0x81, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
		"endless":   append([]byte{smpID, smpData, 0, 0}, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0),
		"too short": append([]byte{smpID, smpData, 0, 0}, 15, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
		"a packet":  request("select 'no frame'"),
	} {
		relayed(t, func(g *rig) { g.Upstream.MARS = true }, func(g *rig) {
			g.client.send(b)
			g.server.want("what came of one " + name)
			g.wantEnd("client broke the protocol", false)
		})
	}
}

func TestAServerThatBreaksTheProtocolEndsTheSession(t *testing.T) {
	relayed(t, nil, func(g *rig) {
		g.client.send(request("select 1"))
		g.server.send([]byte{4, 1, 0, 3, 0, 0, 0, 0})
		g.wantEnd("server broke the protocol", false)
	})
}

func TestWhatTheServerSentReachesTheClientBeforeTheEnd(t *testing.T) {
	for _, whole := range []bool{true, false} {
		relayed(t, nil, func(g *rig) {
			g.client.send(request("select 1"))
			last := replyPacket("the last words")
			if !whole {
				last = last[:12]
			}
			g.server.send(last)
			_ = g.server.Close()
			g.client.want("last words", last)
			g.wantEnd("server closed", whole)
		})
	}
}

func TestAClientThatLeavesEndsTheServersSession(t *testing.T) {
	relayed(t, nil, func(g *rig) {
		g.exchange(g.server, request("select 1"), replyPacket("one"))
		_ = g.client.Close()
		g.server.wantOpen("server", false)
		g.wantEnd("client closed", true)
	})
}

func TestAPacketThatItsClientDidNotFinishIsNotSent(t *testing.T) {
	relayed(t, nil, func(g *rig) {
		g.client.send(request("select 1")[:12])
		_ = g.client.Close()
		g.server.want("the half packet")
		g.wantEnd("client lost", false)
	})
}

func TestTheContextEndsBothSidesAtOnce(t *testing.T) {
	relayed(t, nil, func(g *rig) {
		g.client.send(request("select 1"))
		began := time.Now()
		g.cancel()
		g.wantEnd("cut off", false)
		if took := time.Since(began); took != 0 || !errors.Is(g.err, context.Canceled) {
			t.Errorf("Run took %v more, and returned %v; want 0s, canceled", took, g.err)
		}
	})
}

// halvedConn is a pipe of which one half can be ended, as far as it is told.
type halvedConn struct {
	net.Conn
	halved atomic.Bool
}

func (c *halvedConn) CloseWrite() error {
	c.halved.Store(true)
	return nil
}

func TestAClientThatStillSendsHasTimeToReadTheEnd(t *testing.T) {
	var half *halvedConn
	relayed(t, func(g *rig) {
		half = &halvedConn{Conn: g.Client.conn}
		g.Client.conn = half
	}, func(g *rig) {
		g.client.send(rawPacket(Bulk, 0, []byte("half a message")))
		_ = g.server.Close()
		synctest.Wait()
		if !half.halved.Load() {
			t.Fatal("the client is not told that nothing more comes")
		}
		g.client.send(rawPacket(Bulk, EOM, []byte("the other half"))) // is taken, and nobody's
		began := time.Now()
		g.wantEnd("server closed", false)
		if took := time.Since(began); took != relayLinger {
			t.Errorf("closed after %v, want %v", took, relayLinger)
		}
	})
}
