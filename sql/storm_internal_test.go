package sql

import (
	"fmt"
	"sync"
	"testing"

	"github.com/seed-13b04e61/gateway/gate"
)

// Under the race detector this looks for what reloads, logins and the end of all
// do to each other.
func TestReloadsLoginsAndTheEndDoNotDisturbEachOther(t *testing.T) {
	r := newRig(t)
	r.wire.login = nil
	const doors = 4
	addr := func(n int) string { return fmt.Sprintf("127.0.0.1:%d", 30000+n) }
	r.use(tableOf(doorOf("d0", addr(0))))
	stop := make(chan struct{})
	var clients sync.WaitGroup
	for n := range 8 {
		clients.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				conn, err := r.ports.dial(addr(n%doors), "127.0.0.1:5000")
				if err != nil {
					continue // the door is not there at this time
				}
				_, _ = fmt.Fprintln(conn, `{}`)
				_, _ = conn.Read(make([]byte, 1))
				_ = conn.Close()
			}
		})
	}
	for n := range 200 {
		table := tableOf(doorOf("d0", addr(0)))
		for i := 1; i < doors; i++ {
			if (n>>(i-1))&1 == 1 {
				d := doorOf(fmt.Sprintf("d%d", i), addr(i))
				d.MaxConnections = 1 + n%3
				table.SQL = append(table.SQL, d)
			}
		}
		commit, undo, err := r.srv.Open(table)
		if err != nil {
			t.Fatal(err)
		}
		if n%7 == 3 {
			undo()
			continue
		}
		if alarms := commit(gate.New(table, keys{}), nobodyDials{}); alarms != nil {
			t.Fatal(alarms)
		}
	}
	close(stop)
	clients.Wait()
	r.vacate(addr(0))
	if got := r.dial(addr(0), "127.0.0.1:5000").login(hello{}); got != "welcome" {
		t.Errorf("a login after all reloads = %q, want welcome", got)
	}
	r.srv.Close()
	r.srv.mu.Lock()
	defer r.srv.mu.Unlock()
	if len(r.srv.open) != 0 || len(r.srv.byCaller) != 0 {
		t.Errorf("%d connections are still in the books", len(r.srv.open))
	}
	for key, d := range r.srv.doors {
		if d.seats != 0 || d.unfinished.all != 0 || len(d.unfinished.of) != 0 {
			t.Errorf("door %s: %d seats and %d handshakes are left", key, d.seats, d.unfinished.all)
		}
	}
}

// vacate waits until the sessions of a door have ended, whose clients have left.
func (r *rig) vacate(addr string) {
	s := r.srv
	for {
		s.mu.Lock()
		seats, left := s.doors[addr].seats, s.left
		s.mu.Unlock()
		if seats == 0 {
			return
		}
		<-left
	}
}
