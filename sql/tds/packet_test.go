package tds_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed-13b04e61/gateway/sql/tds"
)

// sample is a message of MS-TDS section 4, with its packet header.
func sample(t testing.TB, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "ms-tds", name))
	if err != nil {
		t.Fatal(err)
	}
	return unhex(t, strings.Join(strings.Fields(string(text)), ""))
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// payload is a sample without its header, which must fit.
func payload(t testing.TB, name string, kind tds.PacketType) []byte {
	t.Helper()
	_, b, err := tds.ReadMessage(bytes.NewReader(sample(t, name)), tds.MaxLoginBytes, kind)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestPublishedHeadersAreReadAndRebuilt(t *testing.T) {
	for _, name := range []string{"4.1-prelogin.hex", "4.2-login.hex", "4.5-login-answer.hex", "4.7-batch-answer.hex"} {
		want := sample(t, name)
		h, b, err := tds.ReadMessage(bytes.NewReader(want), tds.MaxLoginBytes, tds.PacketType(want[0]))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if h.Length != len(want) || h.Status != tds.EOM {
			t.Errorf("%s: header %+v, want length %d and EOM", name, h, len(want))
		}
		got := write(t, h, b, tds.LoginPacket)
		if name == "4.2-login.hex" {
			want[6] = 1 // the sample counts its packets from 0 there
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s: rebuilt as %x, want %x", name, got, want)
		}
	}
}

func write(t testing.TB, h tds.Header, payload []byte, size int) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := tds.WriteMessage(&b, h, payload, size); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestLongMessagesGoInFullPacketsAndOneWrite(t *testing.T) {
	body := bytes.Repeat([]byte{7}, 2*(4096-8)+5)
	w := &countingWriter{}
	h := tds.Header{Type: tds.Batch, Status: tds.ResetConnection, SPID: 51}
	if err := tds.WriteMessage(w, h, body, 4096); err != nil {
		t.Fatal(err)
	}
	if w.writes != 1 {
		t.Errorf("writes = %d, want 1", w.writes)
	}
	r := bytes.NewReader(w.Bytes())
	for i, want := range []tds.Header{
		{Type: tds.Batch, Status: tds.ResetConnection, Length: 4096, SPID: 51, ID: 1},
		{Type: tds.Batch, Length: 4096, SPID: 51, ID: 2},
		{Type: tds.Batch, Status: tds.EOM, Length: 13, SPID: 51, ID: 3},
	} {
		got, err := tds.ReadHeader(r)
		if err != nil || got != want {
			t.Errorf("packet %d: header %+v, %v, want %+v", i, got, err, want)
		}
		_, _ = io.CopyN(io.Discard, r, int64(got.Length-tds.HeaderSize))
	}
	_, got, err := tds.ReadMessage(bytes.NewReader(w.Bytes()), len(body), tds.RPC, tds.Batch)
	if err != nil || !bytes.Equal(got, body) {
		t.Errorf("read back %d bytes, %v, want %d", len(got), err, len(body))
	}
}

type countingWriter struct {
	bytes.Buffer
	writes int
}

func (w *countingWriter) Write(b []byte) (int, error) {
	w.writes++
	return w.Buffer.Write(b)
}

func TestAMessageThatFillsItsPacketsHasNoEmptyOneBehind(t *testing.T) {
	if got := write(t, tds.Header{Type: tds.Batch}, make([]byte, 4088), 4096); len(got) != 4096 || got[1] != tds.EOM {
		t.Errorf("%d bytes with status %#x, want one full packet with EOM", len(got), got[1])
	}
	if got := write(t, tds.Header{Type: tds.Attention}, nil, 4096); !bytes.Equal(got, unhex(t, "0601000800000100")) {
		t.Errorf("attention = %x", got)
	}
}

func TestPacketSizesThatNoPacketHasAreRefused(t *testing.T) {
	for _, size := range []int{-1, 0, 8, 32768} {
		if err := tds.WriteMessage(io.Discard, tds.Header{}, []byte{1}, size); err == nil {
			t.Errorf("packets of %d bytes were written", size)
		}
	}
}

func TestNothingBeyondTheMessageIsRead(t *testing.T) {
	r := bytes.NewReader(append(write(t, tds.Header{Type: tds.Batch}, []byte("one"), 512), "more"...))
	if _, _, err := tds.ReadMessage(r, 10, tds.Batch); err != nil {
		t.Fatal(err)
	}
	if rest, _ := io.ReadAll(r); string(rest) != "more" {
		t.Errorf("left to read %q, want %q", rest, "more")
	}
}

func TestBrokenMessagesAreErrors(t *testing.T) {
	long := write(t, tds.Header{Type: tds.Reply}, make([]byte, 5000), 4096)
	mixed := bytes.Clone(long)
	mixed[4096] = byte(tds.Batch)
	for _, test := range []struct {
		name string
		in   []byte
		want error
	}{
		{"nothing", nil, io.EOF},
		{"half a header", long[:5], io.ErrUnexpectedEOF},
		{"half a packet", long[:100], io.ErrUnexpectedEOF},
		{"a header alone", long[:8], io.ErrUnexpectedEOF},
		{"no last packet", long[:4096], io.ErrUnexpectedEOF},
		{"too long", write(t, tds.Header{Type: tds.Reply}, make([]byte, 6001), 4096), tds.ErrTooLong},
		{"empty packets without end", bytes.Repeat(unhex(t, "0400000800000100"), 100), tds.ErrTooLong},
		{"length 7", unhex(t, "0401000700000100"), nil},
		{"length 32768", unhex(t, "0401800000000100"), nil},
		{"another type", write(t, tds.Header{Type: tds.Batch}, nil, 4096), nil},
		{"two types", mixed, nil},
	} {
		_, _, err := tds.ReadMessage(bytes.NewReader(test.in), 6000, tds.Reply, tds.PreLogin)
		if err == nil || test.want != nil && !errors.Is(err, test.want) {
			t.Errorf("%s: error %v, want %v", test.name, err, test.want)
		}
	}
}

func TestHeadersAreReadWithoutGarbage(t *testing.T) {
	packet := unhex(t, "0401000800000100")
	r := bytes.NewReader(packet)
	n := testing.AllocsPerRun(1000, func() {
		r.Reset(packet)
		if _, err := tds.ReadHeader(r); err != nil {
			t.Fatal(err)
		}
	})
	if n != 0 {
		t.Errorf("allocations per header = %v, want 0", n)
	}
}

func ExampleReadMessage() {
	var wire bytes.Buffer
	if err := tds.WriteMessage(&wire, tds.Header{Type: tds.Batch}, make([]byte, 1000), 512); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(wire.Len(), "bytes in packets")
	h, payload, err := tds.ReadMessage(&wire, 1000, tds.Batch, tds.RPC)
	fmt.Println(h.Type == tds.Batch, len(payload), err)
	// Output:
	// 1016 bytes in packets
	// true 1000 <nil>
}

// hoarder keeps the memory that it was to read into.
type hoarder struct {
	r    *bytes.Reader
	kept [][]byte
}

func (h *hoarder) Read(b []byte) (int, error) {
	h.kept = append(h.kept, b)
	return h.r.Read(b)
}

func TestMessagesThatBreakOffLeaveNothingBehind(t *testing.T) {
	first := append([]byte{0x10, 0, 0, 14, 0, 0, 1, 0}, "secret"...)
	for name, rest := range map[string][]byte{
		"the end": nil, "half a header": {0x10, 1}, "another type": {1, 1, 0, 9, 0, 0, 2, 0, 1},
		"too much": {0x10, 1, 1, 0, 0, 0, 2, 0}, "half a packet": {0x10, 1, 0, 12, 0, 0, 2, 0, 's'},
	} {
		in := &hoarder{r: bytes.NewReader(append(bytes.Clone(first), rest...))}
		if _, payload, err := tds.ReadMessage(in, 64, tds.Login7); err == nil || payload != nil {
			t.Errorf("%s: %x, %v, want an error alone", name, payload, err)
		}
		for _, b := range in.kept {
			if bytes.Contains(b, []byte("secret")) {
				t.Errorf("%s: the payload is still in memory", name)
			}
		}
	}
}
