package proxy_test

import (
	"crypto/tls"
	"net/http/httptest"
	"testing"
)

func TestPostQuantumKeyExchangeIsSparedOnThisMachineAlone(t *testing.T) {
	d := digging(t, rigging{}, plain, echo)
	curve := func(known ...tls.CurveID) tls.CurveID {
		conf := d.ca.trust("example.com", "http/1.1")
		conf.CurvePreferences = known
		c := d.secure(t, "example.com", conf)
		if err := c.Handshake(); err != nil {
			t.Fatal(err)
		}
		return c.ConnectionState().CurveID
	}
	if got := curve(); got != tls.X25519 {
		t.Errorf("a client on this machine got %s", got)
	}
	if got := curve(tls.X25519MLKEM768); got != tls.X25519MLKEM768 {
		t.Errorf("a client on this machine that knows nothing else got %s", got)
	}
	far := make(chan string, 1)
	far <- "192.0.2.1:4711"
	front := httptest.NewUnstartedServer(nil)
	front.Config = d.handler.NewServer()
	front.Listener = d.handler.Listener(elsewhere{front.Listener, far})
	front.Start()
	t.Cleanup(front.Close)
	t.Cleanup(func() { close(far) })
	d.front = front
	if got := curve(); got != tls.X25519MLKEM768 {
		t.Errorf("a client on another machine got %s", got)
	}
}
