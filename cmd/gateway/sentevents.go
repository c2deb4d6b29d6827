package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

const (
	// streamSilence is how long a stream may say nothing: three heartbeats.
	streamSilence = 45 * time.Second
	// maxEventLine bounds one line of a stream, in bytes.
	maxEventLine = 1 << 20
)

// sentEvent is a server-sent event, or with neither name nor data the place at
// which its reader is.
type sentEvent struct{ name, id, data string }

// readEvents hands each event of a stream to take, until it ends, take fails or
// nothing was heard for too long; silent is called then, and has to end the
// stream.
func readEvents(stream io.Reader, silent func(), take func(sentEvent) error) error {
	alarm := time.AfterFunc(streamSilence, silent)
	defer alarm.Stop()
	in := bufio.NewScanner(stream)
	in.Buffer(nil, maxEventLine)
	var e sentEvent
	for in.Scan() {
		alarm.Reset(streamSilence)
		name, value, _ := strings.Cut(in.Text(), ":")
		value = strings.TrimPrefix(value, " ")
		switch name {
		case "event":
			e.name = value
		case "id":
			e.id = value
		case "data":
			e.data = value // the gateway's are on one line
		}
		if in.Text() != "" {
			continue
		}
		if err := take(e); err != nil {
			return err
		}
		e = sentEvent{}
	}
	return in.Err()
}

// refusedStreamError is what a gateway says that will not do what it is asked.
type refusedStreamError struct{ base, why string }

func (e *refusedStreamError) Error() string {
	return fmt.Sprintf("the gateway at %s refuses: %s", e.base, e.why)
}

// open asks for path and returns the answer if it is 200, whose body must be
// closed. An error that is no [refusedStreamError] may be over with another try.
func (c *adminClient) open(ctx context.Context, path string, header http.Header) (*http.Response, error) {
	resp, err := c.send(ctx, http.MethodGet, path, header)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	defer resp.Body.Close()
	var why struct{ Error string }
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAdminAnswer))
	if err = errors.Join(err, json.Unmarshal(body, &why)); err != nil || why.Error == "" {
		return nil, fmt.Errorf("what answers at %s is no admin port of a gateway that has logs (status %d)", c.base, resp.StatusCode)
	}
	if resp.StatusCode >= http.StatusInternalServerError || resp.StatusCode == http.StatusTooManyRequests {
		return nil, fmt.Errorf("the gateway at %s cannot now: %s", c.base, why.Error)
	}
	return nil, &refusedStreamError{c.base, why.Error}
}
