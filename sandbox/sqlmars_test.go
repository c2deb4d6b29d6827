package sandbox_test

import (
	"encoding/binary"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/seed-13b04e61/gateway/sandbox"
)

// smpFrame is one packet of SMP.
type smpFrame struct {
	flags       byte
	sid         uint16
	seq, window uint32
	body        []byte
}

func (c *rawConn) smp(f smpFrame) {
	b := binary.LittleEndian.AppendUint16([]byte{0x53, f.flags}, f.sid)
	b = binary.LittleEndian.AppendUint32(b, uint32(16+len(f.body)))
	b = binary.LittleEndian.AppendUint32(b, f.seq)
	b = binary.LittleEndian.AppendUint32(b, f.window)
	c.write(append(b, f.body...))
}

func (c *rawConn) smpNext() (smpFrame, error) {
	h := make([]byte, 16)
	if _, err := io.ReadFull(c.conn, h); err != nil {
		return smpFrame{}, err
	}
	f := smpFrame{flags: h[1], sid: binary.LittleEndian.Uint16(h[2:]), seq: binary.LittleEndian.Uint32(h[8:]), window: binary.LittleEndian.Uint32(h[12:])}
	f.body = make([]byte, binary.LittleEndian.Uint32(h[4:])-16)
	_, err := io.ReadFull(c.conn, f.body)
	return f, err
}

// tdsPacket is one packet with a batch, or without text an attention.
func tdsPacket(text string) []byte {
	kind, payload := byte(6), []byte(nil)
	if text != "" {
		kind = 1
		payload = binary.LittleEndian.AppendUint32(nil, 22)
		payload = binary.LittleEndian.AppendUint32(payload, 18)
		payload = binary.LittleEndian.AppendUint16(payload, 2)
		payload = append(payload, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0)
		payload = append(payload, utf16le(text)...)
	}
	b := binary.BigEndian.AppendUint16([]byte{kind, 1}, uint16(8+len(payload)))
	return append(append(b, 0, 0, 1, 0), payload...)
}

// marsSession logs in with MARS granted.
func marsSession(t *testing.T, s *sandbox.SQL, token string) *rawConn {
	t.Helper()
	c := rawStrict(t, s)
	if got := c.prelogin(func(o map[byte][]byte) { o[4] = []byte{1} })[4]; !slices.Equal(got, []byte{1}) {
		t.Fatalf("MARS = %v, want granted", got)
	}
	if a := c.login(rawLogin(token, c.echo)); !a.has(0xad) {
		t.Fatalf("login = %x", a.kinds)
	}
	return c
}

func TestSQLServerServesTwoMARSSessionsWithinTheirWindows(t *testing.T) {
	w := world(t, sandbox.Options{})
	s := sqlServer(t, sandbox.SQLOptions{World: w})
	c := marsSession(t, s, tokenFor(t, w, sandbox.SQLResource))
	c.smp(smpFrame{flags: 1, sid: 0, window: 4})
	c.smp(smpFrame{flags: 8, sid: 0, seq: 1, window: 4, body: tdsPacket("SELECT n, pad FROM numbers(1000000, 100)")})
	for i := range 4 { // the window is used up, and the session waits
		f, err := c.smpNext()
		if err != nil || f.flags != 8 || f.sid != 0 || f.seq != uint32(i+1) {
			t.Fatalf("frame %d = %+v, %v", i, f, err)
		}
	}
	c.smp(smpFrame{flags: 1, sid: 1, window: 4})
	c.smp(smpFrame{flags: 8, sid: 1, seq: 1, window: 4, body: tdsPacket("SELECT 42")})
	f, err := c.smpNext()
	if err != nil || f.sid != 1 || f.flags != 8 || !strings.Contains(string(f.body), "\x04\x2a\x00\x00\x00") || f.window < 5 {
		t.Fatalf("the second session = %+v, %v", f, err)
	}
	c.smp(smpFrame{flags: 8, sid: 0, seq: 2, window: 4, body: tdsPacket("")}) // attention
	c.smp(smpFrame{flags: 2, sid: 0, window: 1000})
	acknowledged := false
	for !acknowledged {
		if f, err = c.smpNext(); err != nil {
			t.Fatal(err)
		}
		acknowledged = f.sid == 0 && len(f.body) == 8+13 && f.body[8] == 0xfd && f.body[9]&0x20 != 0
	}
	for sid := range uint16(2) {
		c.smp(smpFrame{flags: 4, sid: sid, window: 1000})
		if f, err = c.smpNext(); err != nil || f.flags != 4 || f.sid != sid {
			t.Errorf("FIN = %+v, %v", f, err)
		}
	}
}

func TestSQLServerRefusesMARSAsItIsTold(t *testing.T) {
	s := sqlServer(t, sandbox.SQLOptions{})
	s.Set(func(m *sandbox.SQLManners) { m.NoMARS = true })
	if got := rawStrict(t, s).prelogin(func(o map[byte][]byte) { o[4] = []byte{1} })[4]; !slices.Equal(got, []byte{0}) {
		t.Errorf("MARS = %v, want refused", got)
	}
}

func TestSQLServerHoldsBadSMPAgainstTheClient(t *testing.T) {
	w := world(t, sandbox.Options{})
	token := tokenFor(t, w, sandbox.SQLResource)
	open := smpFrame{flags: 1, sid: 3, window: 4}
	for _, tt := range []struct {
		name, words string
		frames      []smpFrame
	}{
		{"SYN twice", "SYN for session 3", []smpFrame{open, open}},
		{"no SYN", "is not open", []smpFrame{{flags: 8, sid: 3, seq: 1, body: tdsPacket("SELECT 1")}}},
		{"a gap", "DATA 2 where 1", []smpFrame{open, {flags: 8, sid: 3, seq: 2, window: 4, body: tdsPacket("SELECT 1")}}},
		{"half a packet", "not one packet of TDS", []smpFrame{open, {flags: 8, sid: 3, seq: 1, window: 4, body: tdsPacket("SELECT 1")[:20]}}},
		{"unknown flags", "flags 0x03", []smpFrame{open, {flags: 3, sid: 3}}},
		{"no SMP", "SMID 0x01", nil},
	} {
		s := violating(t, w)
		c := marsSession(t, s, token)
		for _, f := range tt.frames {
			c.smp(f)
		}
		if tt.frames == nil {
			c.write(tdsPacket("SELECT 1"))
		}
		for _, err := c.smpNext(); err == nil && tt.name != "a gap"; _, err = c.smpNext() {
			continue
		}
		c.conn.Close()
		s.Close()
		if got := s.Violations(); len(got) == 0 || !strings.Contains(got[0], tt.words) {
			t.Errorf("%s: violations = %q, want one with %q", tt.name, got, tt.words)
		}
	}
}
