package probe

import (
	"bufio"
	"errors"
	"io"
	"strings"
	"testing"
)

func read(text string) (reply, error) {
	return readReply(bufio.NewReaderSize(strings.NewReader(text), maxLine))
}

func TestReadReply(t *testing.T) {
	for _, tc := range []struct {
		text string
		want string // as String has it; "" is an error
	}{
		{"220 mx.example.com ESMTP\r\n", "220 mx.example.com ESMTP"},
		{"220\r\n", "220"},
		{"220 \r\n", "220"},
		{"220 bare LF\n", "220 bare LF"},
		{"250-mx\r\n250-SIZE 1\r\n250 STARTTLS\r\n", "250 mx / SIZE 1 / STARTTLS"},
		{"250-mx\r\n250\r\n", "250 mx /"},
		{"250 one\r\n250 two\r\n", "250 one"},
		{"554 \x1b[31mgo\r\n", "554 ?[31mgo"},

		{"", ""},
		{"220", ""},
		{"220 no end", ""},
		{"220-more\r\n", ""},
		{"250-mx\r\n251 x\r\n", ""},
		{"22 x\r\n", ""},
		{"22x x\r\n", ""},
		{"120 x\r\n", ""},
		{"620 x\r\n", ""},
		{"220_x\r\n", ""},
		{"\r\n", ""},
		{"* OK IMAP\r\n", ""},
		{"HTTP/1.1 400 Bad Request\r\n", ""},
		{"220 " + strings.Repeat("x", maxLine) + "\r\n", ""},
		{strings.Repeat("220-x\r\n", maxLines) + "220 x\r\n", ""},
	} {
		r, err := read(tc.text)
		if (err == nil) != (tc.want != "") || err == nil && r.String() != tc.want {
			t.Errorf("%.40q: %q, %v; want %q", tc.text, r, err, tc.want)
		}
	}
	if r, err := read(strings.Repeat("220-x\r\n", maxLines-1) + "220 x\r\n"); err != nil || len(r.lines) != maxLines {
		t.Errorf("%d lines, %v", len(r.lines), err)
	}
	if r, err := read("220 " + strings.Repeat("x", maxLine-6) + "\r\n"); err != nil || len(r.lines[0]) != maxLine-6 {
		t.Errorf("%v", err)
	}
}

// FuzzReply: whatever comes, reading ends, within bounds, and what is a reply reads the
// same again as it is written.
func FuzzReply(f *testing.F) {
	for _, seed := range []string{"220 x\r\n", "250-x\r\n250 STARTTLS\r\n", "220-\r\n220\r\n", "250-a\n250 b\n", "999 x\r\n", "220-x\r\n221 x\r\n", "", "\x16\x03\x01"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, err := read(text)
		if err != nil {
			if !errors.Is(err, errReply) && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Fatalf("%v", err)
			}
			return
		}
		if r.code < 200 || r.code > 599 || len(r.lines) == 0 || len(r.lines) > maxLines {
			t.Fatalf("%d, %d lines", r.code, len(r.lines))
		}
		var b strings.Builder
		for i, line := range r.lines {
			if strings.Contains(line, "\n") || len(line) > maxLine {
				t.Fatalf("line %q", line)
			}
			mark := "-"
			if i == len(r.lines)-1 {
				mark = " "
			}
			b.WriteString(reply{code: r.code}.String() + mark + line + "\r\n")
		}
		if len(text) < maxLine/2 {
			again, err := read(b.String())
			if err != nil || again.code != r.code || strings.Join(again.lines, "\n") != strings.Join(r.lines, "\n") {
				t.Fatalf("%q: %v, %v", b.String(), again, err)
			}
		}
		if s := r.String(); strings.ContainsAny(s, "\r\n\x1b") || len(s) > 300 {
			t.Fatalf("%q", s)
		}
		_ = r.offers("STARTTLS")
		_ = r.name()
	})
}
