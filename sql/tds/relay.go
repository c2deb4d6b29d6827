package tds

import (
	"context"
	"time"
)

// Relay passes packets between a client and the server that it is logged in to.
// Client to server goes packet by packet, each in one Write; server to client
// as the bytes come. No content is looked at.
type Relay struct {
	Client   *Client
	Upstream *Upstream
	// Due tells whether the session's token is near its end, Over whether it is
	// past it. Asked when a client resets its session, never under MARS. nil Due:
	// never.
	Due, Over func() bool
	// Login logs in again for the same client with a fresh token.
	Login func(ctx context.Context) (*Upstream, error)
	// MaxAge closes the session once it is older, idle for a minute and no
	// request is under way; 0: never.
	MaxAge time.Duration
	// Relogged hears the outcome of each login again: "success", "kept" (it failed, and the
	// old token is still good), "failed", "unfit". nil: nobody does.
	Relogged func(result string, err error)
}

// Stats is what passed, readable at any time.
type Stats struct {
	BytesIn, BytesOut int64 // from the client, to the client
	Requests          int64 // messages from the client
	Relogins          int64
}

// Run relays until either side ends, ctx ends, or Drain. Both connections are
// closed when it returns. The text says why it ended, in words for the log:
// "client closed", "server closed", "drained", …; err is nil for orderly ends.
func (r *Relay) Run(ctx context.Context) (reason string, err error) { panic("provisional") }

// Drain has the session end at the next moment when nothing is lost: at once if
// it was idle for grace, else at the next reset or when it is idle for so long.
func (r *Relay) Drain(grace time.Duration) { panic("provisional") }

// Stats may be called at any time.
func (r *Relay) Stats() Stats { panic("provisional") }
