package main

import (
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/seed-13b04e61/gateway/sql/tds"
)

// login opens a session as an ordinary client does.
func (c *contender) login() (net.Conn, error) {
	conn, err := net.Dial("tcp", c.addr)
	if err != nil {
		return nil, err
	}
	if c.secured {
		conn = tls.Client(conn, &tls.Config{RootCAs: c.roots, ServerName: "localhost", NextProtos: []string{tds.ALPN}})
	}
	hello := tds.Options{
		{Token: tds.OptVersion, Data: make([]byte, 6)},
		{Token: tds.OptEncryption, Data: []byte{byte(tds.EncryptNotSupported)}},
		{Token: tds.OptMARS, Data: []byte{0}},
	}
	login, err := (&tds.Login{Version: tds.TDS74, PacketSize: 4096}).Bytes()
	if err != nil {
		return nil, err
	}
	for _, m := range []struct {
		kind    tds.PacketType
		payload []byte
	}{{tds.PreLogin, hello.Bytes()}, {tds.Login7, login}} {
		if err := tds.WriteMessage(conn, tds.Header{Type: m.kind}, m.payload, tds.LoginPacket); err != nil {
			return nil, err
		}
		if _, _, err := tds.ReadMessage(conn, tds.MaxAnswerBytes, tds.Reply); err != nil {
			return nil, err
		}
	}
	return conn, nil
}

// ask has the server send a reply with so many bytes of payload, and reads it.
func ask(conn net.Conn, bytes int) error {
	batch := binary.BigEndian.AppendUint64(nil, uint64(bytes))
	if err := tds.WriteMessage(conn, tds.Header{Type: tds.Batch}, batch, tds.LoginPacket); err != nil {
		return err
	}
	r := &replies{r: conn}
	return r.whole()
}

// replies reads packets through a buffer, as drivers do.
type replies struct {
	r          io.Reader
	buf        [64 << 10]byte
	start, end int
}

// whole reads to the end of a reply.
func (r *replies) whole() error {
	for {
		for r.end-r.start < tds.HeaderSize {
			if err := r.fill(); err != nil {
				return err
			}
		}
		status, left := r.buf[r.start+1], int(binary.BigEndian.Uint16(r.buf[r.start+2:]))
		if left < tds.HeaderSize {
			return errors.New("no packet")
		}
		for left > r.end-r.start {
			left -= r.end - r.start
			r.start, r.end = 0, 0
			if err := r.fill(); err != nil {
				return err
			}
		}
		r.start += left
		if status&tds.EOM != 0 {
			return nil
		}
	}
}

func (r *replies) fill() error {
	r.end = copy(r.buf[:], r.buf[r.start:r.end])
	r.start = 0
	n, err := r.r.Read(r.buf[r.end:])
	r.end += n
	if n > 0 {
		return nil
	}
	return err
}

// batches has sessions send small batches at once, and returns how long each
// took, and the contender's CPU time for all of them.
func (c *contender) batches(o options) ([]time.Duration, time.Duration, error) {
	conns := make([]net.Conn, o.sessions)
	for i := range conns {
		conn, err := c.login()
		if err != nil {
			return nil, 0, err
		}
		defer conn.Close()
		conns[i] = conn
	}
	before, err := c.cpu()
	if err != nil {
		return nil, 0, err
	}
	took, errs := make([]time.Duration, o.sessions*o.batches), make([]error, o.sessions)
	var all sync.WaitGroup
	for i, conn := range conns {
		all.Go(func() {
			for n := range o.batches {
				began := time.Now()
				if errs[i] = ask(conn, 100); errs[i] != nil {
					return
				}
				took[i*o.batches+n] = time.Since(began)
			}
		})
	}
	all.Wait()
	after, err := c.cpu()
	return took, after - before, errors.Join(append(errs, err)...)
}
