package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/seed-13b04e61/gateway/admin"
	"github.com/spf13/cobra"
)

const (
	// logsPause is how long logs waits before it looks for a gateway that went
	// away.
	logsPause = time.Second
	// maxLines bounds how many calls logs begins with.
	maxLines = 1000
)

// logsFlags are the flags of logs.
type logsFlags struct {
	admin                       adminFlags
	route, caller, status, code string
	lines                       int
	asJSON, once                bool
}

func newLogs(s std) *cobra.Command {
	var f logsFlags
	cmd := &cobra.Command{
		Use:   "logs",
		Short: "Follow the calls of a running gateway, each with cause and remedy where it failed",
		Long: `Prints the latest calls of a running gateway, and those that follow, until it is
interrupted: a line each, and below it the cause and the next step where a call
failed. It needs what gateway reload needs: the gateway's own user or root on the
same machine, or the admin key. When the gateway goes away, it waits for it to come
back, and says so on standard error; calls that were missed are counted there too.
--json prints an object a line, as /api/requests has them.

  gateway logs --status 4xx --route graph
  gateway logs --once --json -n 1000 | jq 'select(.code == "rule_denied")'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.lines < 0 || f.lines > maxLines {
				return fmt.Errorf("-n %d: want 0 to %d", f.lines, maxLines)
			}
			c, err := f.admin.client(cmd)
			if err != nil {
				return no(err)
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt)
			defer stop()
			return no((&follower{client: c, flags: f, s: s}).run(ctx))
		},
	}
	f.admin.add(cmd)
	cmd.Flags().StringVar(&f.route, "route", "", "only calls of this route")
	cmd.Flags().StringVar(&f.caller, "caller", "", "only calls of this caller")
	cmd.Flags().StringVar(&f.status, "status", "", "only calls with this status, or of this class: 403, 4xx")
	cmd.Flags().StringVar(&f.code, "code", "", "only calls that the gateway refused with this code, such as rule_denied")
	cmd.Flags().IntVarP(&f.lines, "lines", "n", 10, "how many of the latest calls to begin with")
	cmd.Flags().BoolVar(&f.once, "once", false, "print the latest calls and end")
	cmd.Flags().BoolVar(&f.asJSON, "json", false, "print JSON, an object a line")
	_ = cmd.RegisterFlagCompletionFunc("route", completeRoutes) // the flags exist
	_ = cmd.RegisterFlagCompletionFunc("caller", completeCallers)
	return cmd
}

// follower prints calls as they come.
type follower struct {
	client *adminClient
	flags  logsFlags
	s      std
	last   string // id of the latest that was read; "" before the first
	broken error  // another try would not help
}

// run follows until ctx ends. It gives up on a gateway that never answered, and
// on one that refuses.
func (f *follower) run(ctx context.Context) error {
	if f.flags.once {
		return f.list(ctx)
	}
	f.client.http.Timeout = 0 // a stream has no end
	for met, told := false, false; ; {
		opened, err := f.follow(ctx)
		var refusal *refusedStreamError
		switch met = met || opened; {
		case ctx.Err() != nil:
			return nil // somebody has seen enough
		case f.broken != nil:
			return f.broken
		case !met, errors.As(err, &refusal):
			return err
		case opened:
			told = false // streams end now and then, to be asked for anew
		case !told:
			told = true
			fmt.Fprintf(f.s.err, "the gateway at %s went away; waiting for it\n", f.client.base)
		}
		select {
		case <-time.After(logsPause):
		case <-ctx.Done():
			return nil
		}
	}
}

// query is what the admin port is asked for.
func (f *follower) query() string {
	q := url.Values{"limit": {strconv.Itoa(f.flags.lines)}}
	for name, value := range map[string]string{
		"route": f.flags.route, "caller": f.flags.caller, "status": f.flags.status, "code": f.flags.code,
	} {
		if value != "" {
			q.Set(name, value)
		}
	}
	return "/api/requests?" + q.Encode()
}

// list prints the latest calls, oldest first.
func (f *follower) list(ctx context.Context) error {
	var list []json.RawMessage
	resp, err := f.client.open(ctx, f.query(), nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&list); err != nil {
		return fmt.Errorf("what answers at %s is no admin port of a gateway: %w", f.client.base, err)
	}
	if len(list) == 0 {
		fmt.Fprintln(f.s.err, "no call of those that the gateway remembers fits; gateway check lists routes and callers")
	}
	for _, one := range slices.Backward(list) {
		if err := f.print(one); err != nil {
			return err
		}
	}
	return nil
}

// follow reads one stream to its end. opened: there was one.
func (f *follower) follow(ctx context.Context) (opened bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	header := http.Header{"Accept": {"text/event-stream"}}
	if f.last != "" {
		header.Set("Last-Event-ID", f.last)
	}
	patience := time.AfterFunc(streamSilence, cancel)
	resp, err := f.client.open(ctx, f.query(), header)
	patience.Stop()
	if err != nil {
		return false, err
	}
	defer resp.Body.Close()
	return true, readEvents(resp.Body, cancel, f.event)
}

// event takes one server-sent event.
func (f *follower) event(e sentEvent) error {
	if e.id != "" {
		f.last = e.id
	}
	f.broken = f.take(e)
	return f.broken
}

func (f *follower) take(e sentEvent) error {
	switch e.name {
	case "request":
		return f.print([]byte(e.data))
	case "lost":
		var lost admin.Lost
		if err := json.Unmarshal([]byte(e.data), &lost); err != nil {
			return fmt.Errorf("an event that is none: %w", err)
		}
		if lost.Restarted {
			fmt.Fprintln(f.s.err, "the gateway was restarted; calls may be missing here")
		} else {
			fmt.Fprintf(f.s.err, "%d calls were too fast and are missing here\n", lost.Records)
		}
	}
	return nil
}

// print prints one call.
func (f *follower) print(data []byte) error {
	var r admin.Request
	if err := json.Unmarshal(data, &r); err != nil {
		return fmt.Errorf("a call that is none: %w", err)
	}
	text := string(data) + "\n"
	if !f.flags.asJSON {
		text = lineOf(r)
	}
	_, err := f.s.out.Write([]byte(text))
	return err
}

// lineOf is a call for a person: a line, and below it what is to be said of it.
func lineOf(r admin.Request) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %d %s %s  %s route=%s caller=%s", r.Time.Local().Format(time.TimeOnly), r.Status, r.Method, addressOf(r),
		r.Door, orDash(r.Route), orDash(r.Caller))
	for _, field := range []struct{ name, value string }{
		{"token", r.TokenSource}, {"retry", r.Retry}, {"code", r.Code}, {"would_deny", r.WouldDeny},
	} {
		if field.value != "" {
			fmt.Fprintf(&b, " %s=%s", field.name, field.value)
		}
	}
	fmt.Fprintf(&b, " %s", time.Duration(r.Duration*float64(time.Millisecond)).Round(100*time.Microsecond))
	if r.Code != "" || r.Status >= http.StatusBadRequest {
		fmt.Fprintf(&b, " request_id=%s", r.RequestID)
	}
	head := harmless(b.String())
	b.Reset()
	b.WriteString(head + "\n")
	for _, said := range []struct{ word, text string }{{"why", r.Cause}, {"why", r.Remark}, {"do", r.Remedy}} {
		for line := range strings.Lines(said.text) {
			fmt.Fprintf(&b, "   %-4s %s\n", said.word, harmless(strings.TrimRight(line, "\n")))
			said.word = ""
		}
	}
	return b.String()
}

// addressOf is what was called, in the words of the live page: at the reverse
// door the path is the one at the gateway, mount included, and no path of the
// host that stands behind it; without a route the host is what the caller named.
func addressOf(r admin.Request) string {
	host := strings.TrimSuffix(r.Host, ":443")
	switch {
	case r.Door != "reverse":
		return host + r.Path
	case r.Route == "":
		return r.Path + " at " + host // a wrong one is what misdirected is about
	}
	return r.Path + " → " + host
}
