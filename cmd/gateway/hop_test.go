package main

import (
	"errors"
	"net"
	"testing"

	"github.com/seed-13b04e61/gateway/egress"
	"github.com/seed-13b04e61/gateway/routes"
	"github.com/seed-13b04e61/gateway/secrets"
)

func TestTheWayOutKnowsWhatIsPublic(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	h := &hop{}
	if _, err := h.DialPublic(t.Context(), "tcp", l.Addr().String()); !errors.Is(err, errNoHop) {
		t.Errorf("DialPublic before the first table = %v, want errNoHop", err)
	}
	if err := h.use(nil); err != nil {
		t.Fatal(err)
	}
	if _, err := h.DialPublic(t.Context(), "tcp", l.Addr().String()); !errors.Is(err, egress.ErrPrivate) {
		t.Errorf("DialPublic(%s) = %v, want ErrPrivate", l.Addr(), err)
	}
	c, err := h.DialContext(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatalf("DialContext(%s) = %v, want a connection", l.Addr(), err)
	}
	c.Close()
}

func TestWithoutTheNextHopsPasswordNothingIsPassedThrough(t *testing.T) {
	h := &hop{}
	if err := h.use(&routes.EgressProxy{Username: "gw", Password: secrets.Ref{File: t.TempDir() + "/absent"}}); err == nil {
		t.Fatal("use() took a password that is not there")
	}
	if _, err := h.DialPublic(t.Context(), "tcp", "files.test:443"); !errors.Is(err, errNoHop) {
		t.Errorf("DialPublic = %v, want errNoHop", err)
	}
}
