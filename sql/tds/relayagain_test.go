package tds

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

var errNoLogin = errors.New("AADSTS90033: try later")

func TestAResetWithATokenNearItsEndLogsInAgain(t *testing.T) {
	for _, kind := range []PacketType{Batch, RPC, TransactionManager} {
		synctest.Test(t, func(t *testing.T) {
			next, u := newServer(t)
			g := newRig(t, func(g *rig) { g.relogs(u, nil) })
			g.exchange(g.server, request("select 1"), replyPacket("one"))
			held := rawPacket(kind, EOM|ResetConnection, []byte("sp_reset and more"))
			g.client.send(held)
			g.server.want("old server, of what was held")
			g.server.wantOpen("old server", false)
			next.want("new server", held) // with its reset bit, and unchanged
			next.send(replyPacket("environment changed"))
			g.client.want("reply", replyPacket("environment changed"))
			g.exchange(next, request("select 2"), replyPacket("two"))
			g.wantRunning()
			if want := []string{"success"}; !slices.Equal(g.results, want) || g.Stats().Relogins != 1 || g.logins != 1 {
				t.Errorf("results %v, %d logins, %+v; want %v once", g.results, g.logins, g.Stats(), want)
			}
			_ = g.client.Close()
			g.wantEnd("client closed", true)
		})
	}
}

func TestTheRestOfAHeldMessageFollowsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		next, u := newServer(t)
		g := newRig(t, func(g *rig) { g.relogs(u, nil) })
		first := rawPacket(RPC, ResetConnection, make([]byte, 4088))
		rest := slices.Concat(rawPacket(RPC, 0, make([]byte, 4088)), rawPacket(RPC, EOM, []byte("end")))
		g.client.send(slices.Concat(first, rest))
		next.want("new server", first, rest)
		if g.logins != 1 {
			t.Errorf("%d logins, want 1", g.logins)
		}
	})
}

func TestALoginAgainNeedsEachOfItsConditions(t *testing.T) {
	cases := map[string]struct {
		before  func(*rig) // changes the relay
		prelude func(*rig) // plays what comes first
		packet  []byte
	}{
		"no reset bit":      {packet: request("q")},
		"skips transaction": {packet: rawPacket(Batch, EOM|ResetConnectionSkipTran, []byte("q"))},
		"both bits":         {packet: rawPacket(Batch, EOM|ResetConnection|ResetConnectionSkipTran, []byte("q"))},
		"bulk load":         {packet: rawPacket(Bulk, EOM|ResetConnection, []byte("q"))},
		"attention":         {packet: rawPacket(Attention, EOM|ResetConnection, nil)},
		"not due":           {before: func(g *rig) { g.Due = func() bool { return false } }, packet: resetRequest("q")},
		"nobody to ask":     {before: func(g *rig) { g.Due = nil }, packet: resetRequest("q")},
		"no login":          {before: func(g *rig) { g.Login = nil }, packet: resetRequest("q")},
		"not a message's first packet": {
			prelude: func(g *rig) { g.client.send(rawPacket(RPC, 0, []byte("begin"))) },
			packet:  rawPacket(RPC, EOM|ResetConnection, []byte("end"))},
		"a reply is due": {
			prelude: func(g *rig) { g.client.send(request("waitfor")) },
			packet:  resetRequest("q")},
		"a reply runs": {
			prelude: func(g *rig) { g.client.send(request("waitfor")); g.server.send(replyPartial("row")) },
			packet:  resetRequest("q")},
		"a reply stands within a packet": {
			prelude: func(g *rig) { g.client.send(request("waitfor")); g.server.send(replyPacket("row")[:9]) },
			packet:  resetRequest("q")},
		"one reply of two is due": {
			prelude: func(g *rig) {
				g.client.send(request("one"))
				g.client.send(request("two"))
				g.server.send(replyPacket("1"))
			},
			packet: resetRequest("q")},
		"an attention is outstanding": {
			prelude: func(g *rig) { g.client.send(rawPacket(Attention, EOM, nil)) },
			packet:  resetRequest("q")},
		"MARS": {
			before:  func(g *rig) { g.Upstream.MARS = true },
			prelude: func(g *rig) { g.client.send(smpFrame(smpSyn, 0, nil)) },
			packet:  smpFrame(smpData, 0, resetRequest("q"))},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				next, u := newServer(t)
				g := newRig(t, func(g *rig) {
					g.relogs(u, nil)
					if c.before != nil {
						c.before(g)
					}
				})
				if c.prelude != nil {
					c.prelude(g)
				}
				g.server.got = nil
				g.client.send(c.packet)
				g.server.want("server in use", c.packet)
				next.want("another")
				if g.logins != 0 {
					t.Errorf("%d logins, want none", g.logins)
				}
				g.wantRunning()
			})
		})
	}
}

func TestAfterAnAttentionsReplyALoginAgainIsPossible(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		next, u := newServer(t)
		g := newRig(t, func(g *rig) { g.relogs(u, nil) })
		g.client.send(request("waitfor"))
		g.server.send(replyPartial("row"))
		g.client.send(rawPacket(Attention, EOM, nil))
		g.server.send(replyPacket("acknowledged")) // of request and attention, in one
		g.client.send(resetRequest("q"))
		next.want("new server", resetRequest("q"))
	})
}

func TestALoginAgainThatFailsLosesNothingWhileTheTokenIsGood(t *testing.T) {
	relayed(t, func(g *rig) { g.relogs(nil, errNoLogin) }, func(g *rig) {
		g.exchange(g.server, resetRequest("1"), replyPacket("one"))
		g.exchange(g.server, resetRequest("2"), replyPacket("two"))
		if g.logins != 1 {
			t.Errorf("%d logins within a minute of one that failed, want 1", g.logins)
		}
		time.Sleep(relayAgain)
		g.exchange(g.server, resetRequest("3"), replyPacket("three"))
		if want := []string{"kept", "kept"}; !slices.Equal(g.results, want) {
			t.Errorf("results %v, want %v", g.results, want)
		}
		g.wantRunning()
	})
}

func TestALoginAgainThatFailsEndsASessionWhoseTokenIsOver(t *testing.T) {
	over := false
	relayed(t, func(g *rig) {
		g.relogs(nil, errNoLogin)
		g.Over = func() bool { return over }
	}, func(g *rig) {
		g.exchange(g.server, resetRequest("1"), replyPacket("one"))
		over = true // and no minute is waited for
		g.client.send(resetRequest("2"))
		g.server.want("server, of what was held")
		g.client.want("client")
		g.client.wantOpen("client", false)
		g.wantEnd("login again failed", false)
		if want := []string{"kept", "failed"}; !slices.Equal(g.results, want) || !errors.Is(g.err, errNoLogin) {
			t.Errorf("results %v, error %v; want %v, %v", g.results, g.err, want, errNoLogin)
		}
	})
}

func TestALoginThatDoesNotFitEndsTheSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		next, u := newServer(t)
		u.PacketSize = 8000
		g := newRig(t, func(g *rig) { g.relogs(u, nil) })
		g.client.send(resetRequest("q"))
		g.server.want("old server")
		next.want("new server")
		next.wantOpen("new server", false)
		g.wantEnd("login again does not fit", false)
		if want := []string{"unfit"}; !slices.Equal(g.results, want) {
			t.Errorf("results %v, want %v", g.results, want)
		}
	})
}

// slowLogin has the login wait for what is sent on the channel.
func slowLogin(g *rig, u *Upstream, err error) chan<- struct{} {
	g.relogs(u, err)
	gate := make(chan struct{})
	g.Login = func(ctx context.Context) (*Upstream, error) {
		select {
		case <-gate:
			return u, err
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return gate
}

func TestAnOldServerThatEndsDuringTheLoginEndsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		next, u := newServer(t)
		var gate chan<- struct{}
		g := newRig(t, func(g *rig) { gate = slowLogin(g, u, nil) })
		g.client.send(resetRequest("q"))
		_ = g.server.Close()
		g.wantRunning()
		gate <- struct{}{}
		next.want("new server", resetRequest("q"))
		g.exchange(next, request("more"), replyPacket("done"))
		g.wantRunning()
	})
}

func TestWithoutOldServerAndNewLoginTheSessionEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var gate chan<- struct{}
		g := newRig(t, func(g *rig) { gate = slowLogin(g, nil, errNoLogin) })
		g.client.send(resetRequest("q"))
		_ = g.server.Close()
		g.wantRunning()
		gate <- struct{}{}
		g.wantEnd("login again failed", false)
		if want := []string{"failed"}; !slices.Equal(g.results, want) {
			t.Errorf("results %v, want %v", g.results, want)
		}
	})
}

func TestAClientsPacketsWaitForTheLogin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		next, u := newServer(t)
		var gate chan<- struct{}
		g := newRig(t, func(g *rig) {
			g.MaxAge = time.Minute
			gate = slowLogin(g, u, nil)
		})
		g.client.send(resetRequest("q"))
		go func() { _, _ = g.client.Write(rawPacket(Attention, EOM, nil)) }() // the driver's patience is over
		time.Sleep(5 * time.Minute)                                           // and a session that waits is not idle
		g.wantRunning()
		gate <- struct{}{}
		next.want("new server", resetRequest("q"), rawPacket(Attention, EOM, nil))
	})
}

func TestTheContextEndsALogin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, func(g *rig) { slowLogin(g, nil, nil) })
		g.client.send(resetRequest("q"))
		g.cancel()
		g.wantEnd("cut off", false)
	})
}
