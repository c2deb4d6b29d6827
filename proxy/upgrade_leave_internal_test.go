package proxy

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// slowPeer takes what is written to it once ready is closed.
type slowPeer struct {
	ready chan struct{}
	got   atomic.Int64 // bytes
}

func (p *slowPeer) Write(b []byte) (int, error) {
	<-p.ready
	p.got.Add(int64(len(b)))
	return len(b), nil
}

func (p *slowPeer) Close() error { return nil }

func TestUsersHearThatTheyHaveToGoBeforeUpstreamsDo(t *testing.T) {
	for name, wait := range map[string]time.Duration{"a user that listens": 0, "a user that takes nothing": userFirst} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				open := make(chan struct{})
				close(open)
				user, back := &slowPeer{ready: make(chan struct{})}, &slowPeer{ready: open}
				s := &switched{}
				s.user = side{s: s, to: user, stalled: stopped(s.cut)}
				s.back = side{s: s, to: back, stalled: stopped(s.cut), masked: true}
				s.leave()
				synctest.Wait()
				if back.got.Load() > 0 {
					t.Error("the upstream was told first")
				}
				if wait == 0 {
					close(user.ready)
				}
				time.Sleep(wait)
				synctest.Wait()
				if back.got.Load() == 0 {
					t.Error("the upstream was not told")
				}
				if wait > 0 {
					close(user.ready)
				}
				synctest.Wait()
				if user.got.Load() == 0 {
					t.Error("the user was not told")
				}
				time.Sleep(partingTime) // for the timers
			})
		})
	}
}
