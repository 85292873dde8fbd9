package postfixmap

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

func TestParseRequest(t *testing.T) {
	tests := []struct{ in, name, key string }{
		{"postfix example.com", "postfix", "example.com"},
		{"postfix ", "postfix", ""},
		{"postfix a b ", "postfix", "a b "},
	}
	for _, tt := range tests {
		r, err := ParseRequest([]byte(tt.in))
		if err != nil || string(r.Map) != tt.name || string(r.Key) != tt.key {
			t.Errorf("ParseRequest(%q) = %q %q, %v", tt.in, r.Map, r.Key, err)
		}
		enc, err := AppendRequest(nil, tt.name, tt.key)
		if want := AppendNetstring(nil, []byte(tt.in)); err != nil || !bytes.Equal(enc, want) {
			t.Errorf("AppendRequest(%q, %q) = %q, %v; want %q", tt.name, tt.key, enc, err, want)
		}
	}
	for _, in := range []string{"", "postfix", " ", " key"} {
		if _, err := ParseRequest([]byte(in)); !errors.Is(err, ErrNoSpace) {
			t.Errorf("ParseRequest(%q) = %v", in, err)
		}
	}
}

func TestAppendRequestRefuses(t *testing.T) {
	dst := []byte("before")
	for _, tt := range []struct {
		name, key string
		err       error
	}{
		{"", "k", ErrNoSpace},
		{"a b", "k", ErrNoSpace},
		{"m", strings.Repeat("k", MaxRequest-1), ErrTooLong},
	} {
		got, err := AppendRequest(dst, tt.name, tt.key)
		if !errors.Is(err, tt.err) || string(got) != "before" {
			t.Errorf("AppendRequest(%q) = %q, %v; want %v", tt.name, got, err, tt.err)
		}
	}
	if _, err := AppendRequest(nil, "m", strings.Repeat("k", MaxRequest-2)); err != nil {
		t.Errorf("a request at the limit: %v", err)
	}
}

func TestReply(t *testing.T) {
	for _, tt := range []struct {
		wire string
		want Reply
	}{
		{"OK dane-only", Reply{StatusOK, []byte("dane-only")}},
		{"OK ", Reply{StatusOK, []byte{}}},
		{"NOTFOUND ", Reply{StatusNotFound, []byte{}}},
		{"TEMP try later", Reply{StatusTemp, []byte("try later")}},
		{"TIMEOUT x", Reply{StatusTimeout, []byte("x")}},
		{"PERM x", Reply{StatusPerm, []byte("x")}},
	} {
		got, err := ParseReply([]byte(tt.wire))
		if err != nil || got.Status != tt.want.Status || !bytes.Equal(got.Data, tt.want.Data) {
			t.Errorf("ParseReply(%q) = %v, %v", tt.wire, got, err)
		}
		enc, err := AppendReply(nil, tt.want)
		if want := AppendNetstring(nil, []byte(tt.wire)); err != nil || !bytes.Equal(enc, want) {
			t.Errorf("AppendReply(%v) = %q, %v; want %q", tt.want, enc, err, want)
		}
	}
	for _, wire := range []string{"", "OK", "NOTFOUND", "ok x", "OK\tx", " OK x", "ERR x", "OKAY x"} {
		if r, err := ParseReply([]byte(wire)); !errors.Is(err, ErrBadReply) || r.Status != StatusTemp {
			t.Errorf("ParseReply(%q) = %v, %v", wire, r, err)
		}
	}
	for _, r := range []Reply{{Status: 5}, {StatusOK, []byte("a\x00b")}, {StatusOK, make([]byte, MaxReply)}} {
		if got, err := AppendReply([]byte("x"), r); err == nil || string(got) != "x" {
			t.Errorf("AppendReply(%v, %d bytes) was accepted", r.Status, len(r.Data))
		}
	}
	var zero Reply
	if zero.Status != StatusTemp {
		t.Errorf("the zero reply is %v", zero.Status)
	}
	if got := Status(9).String(); got != "Status(9)" {
		t.Errorf("Status(9) = %s", got)
	}
}

func TestAppendHelpers(t *testing.T) {
	for _, tt := range []struct {
		got  []byte
		want string
	}{
		{AppendOK(nil, "may"), "OK may"},
		{AppendNotFound(nil), "NOTFOUND "},
		{AppendTemp(nil, "why"), "TEMP why"},
	} {
		if string(tt.got) != tt.want || checkReply(tt.got) != nil {
			t.Errorf("%q, want %q; check %v", tt.got, tt.want, checkReply(tt.got))
		}
	}
	for _, bad := range []string{"", "OK", "OK a\x00", "HELLO x", "OK " + strings.Repeat("x", MaxReply)} {
		if checkReply([]byte(bad)) == nil {
			t.Errorf("checkReply(%.20q) accepted it", bad)
		}
	}
}

func FuzzProtocol(f *testing.F) {
	for _, s := range []string{"postfix example.com", "OK may", "NOTFOUND ", "TEMP x", "OK", " ", "PERM a b"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		if r, err := ParseRequest(in); err == nil && len(in) <= MaxRequest {
			got, err := AppendRequest(nil, string(r.Map), string(r.Key))
			if err != nil || !bytes.Equal(got, AppendNetstring(nil, in)) {
				t.Fatalf("request %q became %q, %v", in, got, err)
			}
		}
		if r, err := ParseReply(in); err == nil && checkReply(in) == nil {
			got, err := AppendReply(nil, r)
			if err != nil || !bytes.Equal(got, AppendNetstring(nil, in)) {
				t.Fatalf("reply %q became %q, %v", in, got, err)
			}
		}
	})
}
