package authority

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/seed-13b04e61/gateway/tokens"
)

const (
	// sourceTimeout bounds one request to a source of federated tokens.
	sourceTimeout = 10 * time.Second
	// sourceLimit bounds its answer's body, in bytes.
	sourceLimit = assertionLimit
)

// sourceTransport is a way to a source. It keeps no connection, as requests
// are an hour apart and nobody closes it.
func sourceTransport(dialer Dialer) *http.Transport {
	t := newTransport(dialer, nil)
	t.DisableKeepAlives = true
	return t
}

// sourceRequest is a GET.
type sourceRequest struct {
	address *url.URL
	header  http.Header
	hidden  []string // what no error text may repeat
}

// reply is what a source answered.
type reply struct {
	status int
	header http.Header
	body   []byte
}

// fetch makes one request and follows no redirect. An error is an [*Error],
// or a [trouble] for an answer that is too large.
func fetch(ctx context.Context, transport *http.Transport, q sourceRequest) (reply, error) {
	ctx, cancel := context.WithTimeout(ctx, sourceTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, q.address.String(), nil)
	if err != nil {
		return reply{}, q.unanswered(err)
	}
	req.Header = q.header
	req.Header.Set("User-Agent", "gateway")
	resp, err := transport.RoundTrip(req) // not a Client: no redirects, no cookies
	if err != nil {
		return reply{}, q.unanswered(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, sourceLimit+1))
	if err != nil {
		return reply{}, q.unanswered(err)
	}
	if len(body) > sourceLimit {
		return reply{}, &trouble{
			what:   fmt.Sprintf("the answer of %s is larger than %d bytes", q.address.Host, sourceLimit),
			remedy: "check the address: a federated token has a few KiB",
		}
	}
	return reply{resp.StatusCode, resp.Header, body}, nil
}

// unanswered is a source that could not be asked, or not to the end. It may
// pass by itself.
func (q sourceRequest) unanswered(err error) *Error {
	e := &Error{
		Host:   q.address.Host,
		Hint:   "the source of the federated token cannot be reached",
		Remedy: "check that this machine may reach " + q.address.Host,
		Detail: clean(err.Error(), q.hidden, detailLimit),
		cause:  err,
	}
	switch {
	case errors.Is(err, context.Canceled):
		e.Hint, e.Remedy = "the request was given up", ""
	case errors.Is(err, context.DeadlineExceeded):
		e.Hint = "the source of the federated token did not answer in time"
	case untrusted(err):
		e.Hint = "the TLS certificate of the federated token's source is not trusted"
		e.Remedy = "find out who answers for " + q.address.Host + "; if a private CA signed it, add that CA to the system's roots"
	}
	return e
}

// refusal is what an answer other than 200 means: trouble that somebody has to
// mend, or something passing.
func (r reply) refusal(from source, remedy string) error {
	name := strings.TrimSpace(fmt.Sprintf("%d %s", r.status, http.StatusText(r.status)))
	e := &Error{
		Host:   sourceHost(from),
		Status: r.status,
		Hint:   "the source of the federated token answered " + name,
		Remedy: "wait; if it lasts, look at the status of " + from.String(),
	}
	wait, asked := retryAfter(answer{status: r.status, header: r.header, received: time.Now()})
	switch {
	case r.status == http.StatusTooManyRequests && !asked:
		wait, asked = defaultQuiet, true
		fallthrough
	case asked:
		e.Nature, e.Reach, e.RetryAfter = tokens.Throttled, tokens.ReachCredential, wait
		return e
	case r.status >= 500, r.status == http.StatusRequestTimeout:
		e.Nature = tokens.Transient
		return e
	}
	return &trouble{what: "no federated token from " + from.String() + ": it answered " + name, remedy: remedy}
}

// sourceHost is the host of a source that has an address.
func sourceHost(s source) string {
	if u, err := url.Parse(s.String()); err == nil {
		return u.Host
	}
	return ""
}
