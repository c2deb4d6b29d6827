package e2e

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"testing"

	"github.com/seed-13b04e61/gateway/sandbox"
	"github.com/seed-13b04e61/gateway/sql/tds"
)

// smp is the header of a frame of MARS, of a length of its own.
func smp(flags byte, sid uint16, length uint32) []byte {
	b := binary.LittleEndian.AppendUint16([]byte{0x53, flags}, sid)
	b = binary.LittleEndian.AppendUint32(b, length)
	return append(b, make([]byte, 8)...)
}

// marsLogin logs in as a client of MARS does.
func marsLogin(t *testing.T, conn net.Conn) {
	t.Helper()
	_, login := packets(t, nil)
	hello := tds.Options{{Token: tds.OptVersion, Data: make([]byte, 6)}, {Token: tds.OptEncryption, Data: []byte{2}}, {Token: tds.OptMARS, Data: []byte{1}}}
	if err := tds.WriteMessage(conn, tds.Header{Type: tds.PreLogin}, hello.Bytes(), tds.LoginPacket); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write(login); err != nil {
		t.Fatal(err)
	}
	if _, _, err := tds.ReadMessage(conn, tds.MaxPreloginBytes, tds.Reply); err != nil {
		t.Fatalf("the answer to PRELOGIN: %v", err)
	}
	if _, answer, err := tds.ReadMessage(conn, tds.MaxAnswerBytes, tds.Reply); err != nil || !welcomed(t, answer) {
		t.Fatalf("the answer to LOGIN7: %x, %v", answer, err)
	}
}

// TestOddFramesOfMARSAreTheServersToJudgeUnlessTheyAreGiants has a server that
// sends everything back.
func TestOddFramesOfMARSAreTheServersToJudgeUnlessTheyAreGiants(t *testing.T) {
	t.Parallel()
	s := startHostileSQL(t)
	s.do = func(conn net.Conn, _ string) {
		sendReply(conn, sqlWelcome())
		_, _ = io.Copy(conn, conn)
	}
	w := newWorld(t, sandbox.Options{})
	a := &sqlArena{gateway: startSQLDoor(t, w, s.ca, s.addr, "", "")}
	a.addr = a.sqlAddr(t)
	conn := knock(t, a.addr)
	marsLogin(t, conn)
	const syn, fin = 1, 4
	sent := smp(fin, 7, 16)
	for sid := range uint16(1000) {
		sent = append(sent, smp(syn, sid, 16)...)
	}
	if _, err := conn.Write(sent); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(sent))
	if _, err := io.ReadFull(conn, got); err != nil || !bytes.Equal(got, sent) {
		t.Fatalf("a thousand lanes, and the end of one that never was, do not pass as they are: %v", err)
	}
	for name, frame := range map[string][]byte{"a giant": smp(8, 1, 1<<20), "the greatest": smp(8, 1, 1<<32-1), "one below its header": smp(8, 1, 15), "no frame": make([]byte, 16)} {
		hostile := knock(t, a.addr)
		marsLogin(t, hostile)
		if _, err := hostile.Write(frame); err != nil {
			t.Fatal(err)
		}
		if n, err := io.Copy(io.Discard, hostile); n != 0 || isLate(err) {
			t.Errorf("%s: %d bytes came back, %v; want the connection closed", name, n, err)
		}
	}
	if _, err := conn.Write(sent[:16]); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, got[:16]); err != nil {
		t.Errorf("the session beside: %v", err)
	}
	a.serves(t)
	clean(t, a.gateway, w.Secret())
}

func isLate(err error) bool {
	late, ok := err.(net.Error)
	return ok && late.Timeout()
}
