package proxy

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/seed-13b04e61/gateway/audit"
)

// judged notes in the call's span what the gate said.
func (p *passage) judged(refused *refusal) {
	if p.span == nil {
		return
	}
	code := ""
	if refused != nil {
		code = string(refused.code)
	}
	p.span.Gate(p.event.Start, code)
}

// asked notes in the call's span that a token was asked for since began, to be
// had unless err says why not.
func (p *passage) asked(began time.Time, l audit.Lookup, err error) {
	if p.span == nil {
		return
	}
	if l.Source = p.event.TokenSource; err != nil {
		l.Source, l.Code = "", string(explain(&tokenError{err}).code)
	}
	p.span.Token(began, l)
}

// try begins the span of a try at the upstream; nil: traces are off.
func (p *passage) try(out *http.Request) audit.Try {
	if p.span == nil {
		return nil
	}
	p.tries++
	return p.span.Try(out, p.tries)
}

// tried ends the span of a try, if there is one.
func tried(try audit.Try, resp *http.Response, err error) {
	if try == nil {
		return
	}
	code := ""
	switch {
	case errors.Is(err, context.Canceled):
		code = "canceled" // the caller left
	case err != nil:
		code = string(explain(err).code)
	}
	try.End(resp, code)
}
