package proxy_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"

	"github.com/seed-13b04e61/gateway/audit"
	"github.com/seed-13b04e61/gateway/proxy"
)

// A handler serves before it has a table, and says so; Drain comes before
// Shutdown.
func ExampleHandler_Listener() {
	log, err := audit.NewLog(io.Discard, audit.LogConfig{Level: "info", Format: "json"})
	if err != nil {
		fmt.Println(err)
		return
	}
	h := proxy.New(proxy.Config{Recorder: audit.Recorders{log}, Log: log})
	defer h.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	srv := h.NewServer()
	go func() { _ = srv.Serve(h.Listener(l)) }()

	resp, err := http.Get("http://" + l.Addr().String() + "/graph/v1.0/users")
	if err != nil {
		fmt.Println(err)
		return
	}
	resp.Body.Close()
	fmt.Println(resp.StatusCode, resp.Header.Get("Gateway-Error"))

	h.Drain()
	err = srv.Shutdown(context.Background())
	fmt.Println(err, h.InFlight().Calls)
	http.DefaultClient.CloseIdleConnections()
	// Output:
	// 503 token_unavailable
	// <nil> 0
}
