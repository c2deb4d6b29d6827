package sandbox_test

import (
	"context"
	"testing"

	"github.com/seed-13b04e61/gateway/sandbox"
)

// Whatever a client sends instead of LOGIN7 or a request, the server lives on.
func FuzzSQLServer(f *testing.F) {
	w, err := sandbox.Start(sandbox.Options{})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(w.Close)
	token := tokenFor(f, w, sandbox.SQLResource)
	s, err := sandbox.StartSQL(sandbox.SQLOptions{World: w})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(s.Close)
	login := rawLogin(token, true).bytes()
	f.Add(byte(0), login)
	f.Add(byte(1), tdsPacket("SELECT TOP (2) n, @p1 FROM numbers(3, 4) WHERE n <> 2 ORDER BY n")[8:])
	f.Add(byte(1), tdsPacket("CREATE TABLE #t (a int, b nvarchar(max)); INSERT #t VALUES (1, N'x'); INSERT BULK #t (a int)")[8:])
	f.Add(byte(3), append(tdsPacket("x")[8:30], 0xff, 0xff, 10, 0, 0, 0, 0, 0, 0xe7, 10, 0, 9, 4, 0xd0, 0, 0x34, 2, 0, 'x', 0))
	f.Add(byte(7), []byte{0x81, 1, 0, 0, 0, 0, 0, 9, 0, 0x26, 4, 1, 'a', 0, 0xd1, 4, 1, 0, 0, 0, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Add(byte(14), append(tdsPacket("x")[8:30], 5, 0, 0, 0))
	f.Fuzz(func(t *testing.T, kind byte, payload []byte) {
		c := rawStrict(t, s)
		defer c.conn.Close()
		c.prelogin(nil)
		if kind == 0 {
			c.send(0x10, payload)
			_, _, _ = c.receive()
			return
		}
		c.login(rawLogin(token, true))
		if kind == 7 {
			c.send(1, tdsPacket("CREATE TABLE #t (a int); INSERT BULK #t (a int)")[8:])
			_, _, _ = c.receive()
		}
		c.send(kind, payload)
		c.send(6, nil)
		_, _, _ = c.receive()
	})
	if f.Failed() {
		return
	}
	if err := openWith(f, s, "", token).PingContext(context.Background()); err != nil {
		f.Errorf("after all that: %v", err)
	}
}
