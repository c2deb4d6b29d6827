package tds

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestAnOldSessionIsClosedOnceItIsIdle(t *testing.T) {
	const age = 10 * time.Minute
	relayed(t, func(g *rig) { g.MaxAge = age }, func(g *rig) {
		time.Sleep(age - 30*time.Second)
		g.exchange(g.server, request("select 1"), replyPacket("one"))
		time.Sleep(relayIdle - time.Second)
		g.wantRunning() // old enough, but idle for 59 s
		g.client.send(request("waitfor delay '01:00'"))
		time.Sleep(time.Hour)
		g.wantRunning() // a request is under way
		g.server.send(replyPacket("done"))
		time.Sleep(relayIdle - time.Second)
		g.wantRunning()
		began := time.Now()
		g.wantEnd("too old", true)
		if took := time.Since(began); took != time.Second {
			t.Errorf("closed after %v more, want 1s", took)
		}
	})
}

func TestAgeCountsFromTheLoginInUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		next, u := newServer(t)
		g := newRig(t, func(g *rig) {
			g.MaxAge = 10 * time.Minute
			g.relogs(u, nil)
		})
		time.Sleep(9 * time.Minute)
		g.client.send(resetRequest("q"))
		next.send(replyPacket("done"))
		time.Sleep(9 * time.Minute)
		g.wantRunning()
		g.wantEnd("too old", true)
	})
}

func TestADrainedSessionEndsAtOnceIfItWasIdle(t *testing.T) {
	relayed(t, nil, func(g *rig) {
		g.exchange(g.server, request("select 1"), replyPacket("one"))
		time.Sleep(time.Minute)
		began := time.Now()
		g.Drain(time.Minute)
		g.wantEnd("drained", true)
		if took := time.Since(began); took != 0 {
			t.Errorf("ended after %v, want at once", took)
		}
	})
}

func TestADrainedSessionEndsBeforeARequestThatResets(t *testing.T) {
	relayed(t, nil, func(g *rig) {
		g.exchange(g.server, request("select 1"), replyPacket("one"))
		g.Drain(time.Hour)
		g.exchange(g.server, request("select 2"), replyPacket("two"))
		keeps := rawPacket(Batch, EOM|ResetConnectionSkipTran, []byte("select 3"))
		g.exchange(g.server, keeps, replyPacket("three")) // its transaction lives on
		g.client.send(resetRequest("select 4"))
		g.server.want("server")
		g.client.want("client")
		g.client.wantOpen("client", false)
		g.wantEnd("drained", true)
	})
}

func TestADrainedSessionFinishesItsRequest(t *testing.T) {
	for _, mars := range []bool{false, true} {
		frame := func(b []byte) []byte {
			if mars {
				return smpFrame(smpData, 3, b)
			}
			return b
		}
		relayed(t, func(g *rig) { g.Upstream.MARS = mars }, func(g *rig) {
			g.Drain(10 * time.Second)
			g.client.send(frame(request("waitfor")))
			time.Sleep(time.Hour)
			g.wantRunning()
			g.server.send(frame(replyPartial("row")))
			time.Sleep(time.Hour)
			g.wantRunning()
			g.server.send(frame(replyPacket("done")))
			g.client.want("reply", frame(request("waitfor"))[:0], frame(replyPartial("row")), frame(replyPacket("done")))
			time.Sleep(9 * time.Second)
			g.wantRunning()
			began := time.Now()
			g.wantEnd("drained", true)
			if took := time.Since(began); took != time.Second {
				t.Errorf("MARS %t: ended after %v more, want 1s", mars, took)
			}
		})
	}
}

func TestADrainDuringALoginEndsTheSessionBeforeTheRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		next, u := newServer(t)
		var gate chan<- struct{}
		g := newRig(t, func(g *rig) { gate = slowLogin(g, u, nil) })
		g.client.send(resetRequest("q"))
		g.Drain(0)
		synctest.Wait()
		g.wantRunning()
		gate <- struct{}{}
		next.want("new server")
		g.wantEnd("drained", true)
	})
}

func TestALaneThatIsClosedIsNotWaitedFor(t *testing.T) {
	relayed(t, func(g *rig) { g.Upstream.MARS = true }, func(g *rig) {
		g.client.send(smpFrame(smpSyn, 1, nil))
		g.client.send(smpFrame(smpData, 1, request("waitfor")))
		g.client.send(smpFrame(smpFin, 1, nil))
		g.Drain(time.Minute)
		g.wantEnd("drained", true)
	})
}

func TestMoreLanesThanAnybodyOpensAreNeverIdle(t *testing.T) {
	relayed(t, func(g *rig) { g.Upstream.MARS = true }, func(g *rig) {
		for sid := range uint16(smpMaxLanes + 1) {
			g.client.send(smpFrame(smpSyn, sid, nil))
		}
		g.Drain(time.Minute)
		time.Sleep(time.Hour)
		g.wantRunning()
		g.cancel()
		g.wantEnd("cut off", false)
	})
}
