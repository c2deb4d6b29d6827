package tds_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/seed-13b04e61/gateway/sql/tds"
)

func TestPublishedPreloginIsRebuiltByteForByte(t *testing.T) {
	want := payload(t, "4.1-prelogin.hex", tds.PreLogin)
	options, err := tds.ParsePrelogin(want)
	if err != nil {
		t.Fatal(err)
	}
	if got := options.Bytes(); !bytes.Equal(got, want) {
		t.Errorf("Bytes() = %x, want %x", got, want)
	}
	if e, found := options.Encryption(); e != tds.EncryptOn || !found || !options.MARS() {
		t.Errorf("encryption %d (%t), MARS %t, want 1 (true), true", e, found, options.MARS())
	}
	if v, _ := options.Get(tds.OptVersion); fmt.Sprintf("%x", v) != "090000000000" {
		t.Errorf("version %x", v)
	}
	if _, found := options.Get(tds.OptNonce); found {
		t.Error("a nonce was found that nobody sent")
	}
}

func TestTheBitOfAClientCertificateIsNoEncryptionOfItsOwn(t *testing.T) {
	options := tds.Options{{Token: tds.OptVersion, Data: make([]byte, 6)}, {Token: tds.OptEncryption, Data: []byte{0x81}}}
	if e, found := options.Encryption(); e != tds.EncryptOn || !found {
		t.Errorf("Encryption() = %d, %t, want on", e, found)
	}
	empty := tds.Options{{Token: tds.OptEncryption}, {Token: tds.OptMARS}}
	if _, found := empty.Encryption(); found || empty.MARS() {
		t.Error("options without data have values")
	}
}

func TestBrokenPreloginsAreErrors(t *testing.T) {
	for name, in := range map[string]string{
		"empty":                            "",
		"a terminator alone":               "ff",
		"no terminator":                    "0000060000",
		"VERSION not first":                "01000b000100000c0006ff01000000000000",
		"data beyond the end":              "0000060001ff",
		"an offset beyond the end":         "00ffffffffff",
		"an option cut off":                "000000000001ff",
		"VERSION twice":                    "00000000000000000000ff",
		"a private option twice":           "0000000000f000000000f000000000ff",
		"an option of one byte at the end": "000000000001",
	} {
		if options, err := tds.ParsePrelogin(unhex(t, in)); err == nil {
			t.Errorf("%s: parsed as %v", name, options)
		}
	}
}

func TestOptionsMayOverlapAndPointAnywhereWhenEmpty(t *testing.T) {
	options, err := tds.ParsePrelogin(unhex(t, "000010000101001000010200ff0000ff09"))
	if err != nil {
		t.Fatal(err)
	}
	one, _ := options.Get(tds.OptVersion)
	two, _ := options.Get(tds.OptEncryption)
	if none, found := options.Get(tds.OptInstance); !bytes.Equal(one, two) || !found || none != nil {
		t.Errorf("%x and %x, and %x (%t)", one, two, none, found)
	}
}

func ExampleParsePrelogin() {
	asked := tds.Options{
		{Token: tds.OptVersion, Data: []byte{12, 0, 7, 0xd0, 0, 0}},
		{Token: tds.OptEncryption, Data: []byte{byte(tds.EncryptRequired)}},
		{Token: tds.OptMARS, Data: []byte{0}},
	}
	got, err := tds.ParsePrelogin(asked.Bytes())
	if err != nil {
		fmt.Println(err)
		return
	}
	encryption, _ := got.Encryption()
	fmt.Println(encryption == tds.EncryptRequired, got.MARS())
	// Output: true false
}
