package fleet

import (
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/iotest"
)

// talk sends commands through a guard and reads replies, in pieces of one octet or as they
// come.
func talk(commands, replies string, one bool) (string, error) {
	var in io.Reader = strings.NewReader(replies)
	if one {
		in = iotest.OneByteReader(in)
	}
	g := guard(&pretend{in: in})
	if _, err := g.Write([]byte(commands)); err != nil {
		return "", err
	}
	got, err := io.ReadAll(g)
	return string(got), err
}

// pretend is a connection whose other side has said everything already.
type pretend struct {
	net.Conn
	in io.Reader
}

func (p *pretend) Read(b []byte) (int, error)  { return p.in.Read(b) }
func (p *pretend) Write(b []byte) (int, error) { return len(b), nil }
func (p *pretend) Close() error                { return nil }

const (
	get   = "*2\r\n$3\r\nGET\r\n$1\r\na\r\n"
	hello = "*2\r\n$5\r\nHELLO\r\n$1\r\n2\r\n"
)

func TestGuardPassesReplies(t *testing.T) {
	for _, replies := range []string{
		"+OK\r\n", "-ERR no\r\n", ":7\r\n", ":-1\r\n", "$-1\r\n", "$0\r\n\r\n", "$5\r\na\r\nbc\r\n", "*-1\r\n", "*0\r\n",
		"*2\r\n$1\r\n0\r\n*2\r\n$1\r\na\r\n$1\r\nb\r\n", "*1\r\n*1\r\n*0\r\n", "*3\r\n+a\r\n:1\r\n$-1\r\n",
	} {
		for _, one := range []bool{false, true} {
			if got, err := talk(get, replies, one); got != replies || err != nil {
				t.Errorf("%q came through as %q, %v", replies, got, err)
			}
			if got, err := talk(get+get, replies+replies, one); got != replies+replies || err != nil {
				t.Errorf("twice %q came through as %q, %v", replies, got, err)
			}
		}
	}
}

// TestGuardEndsConnections has what would end the process, or fill its memory.
func TestGuardEndsConnections(t *testing.T) {
	for name, c := range map[string]struct{ commands, replies string }{
		"a length of petabytes":     {get, "$1125899906842624\r\n"},
		"a length below nothing":    {get, "$-2\r\n"},
		"an array below nothing":    {get, "*-7\r\n"},
		"an array of millions":      {get, "*100000000\r\n"},
		"a length past all numbers": {get, "$99999999999999999999999\r\n"},
		"a length in words":         {get, "$ten\r\n"},
		"a string too long":         {get, "$70000\r\n"},
		"a reply too long":          {get, "*16000\r\n" + strings.Repeat("$60000\r\n"+strings.Repeat("x", 60000)+"\r\n", 150)},
		"arrays in arrays":          {get, strings.Repeat("*1\r\n", 100)},
		"a line without end":        {get, "+" + strings.Repeat("x", 1<<20)},
		"a bare line feed":          {get, "+OK\n"},
		"a push of RESP3":           {get, ">2\r\n+a\r\n+b\r\n"},
		"a map of RESP3":            {get, "%1\r\n+a\r\n+b\r\n"},
		"a streamed string":         {get, "$?\r\n"},
		"no number":                 {get, ":x\r\n"},
		"an empty line":             {get, "\r\n"},
		"what nobody asked":         {"", "+OK\r\n"},
		"one reply too many":        {get, "+OK\r\n+OK\r\n"},
		"a greeting without values": {hello, "*3\r\n+a\r\n+b\r\n+c\r\n"},
		"another protocol":          {get, "HTTP/1.1 400 Bad Request\r\n\r\n"},
	} {
		for _, one := range []bool{false, true} {
			if _, err := talk(c.commands, c.replies, one); !errors.Is(err, errProtocol) {
				t.Errorf("%s: %v; want the connection ended", name, err)
			}
		}
	}
	if got, err := talk(hello, "*2\r\n+a\r\n+b\r\n", false); err != nil {
		t.Errorf("a greeting: %q, %v", got, err)
	}
}

func TestGuardBoundsWhatWaits(t *testing.T) {
	if _, err := talk(strings.Repeat(get, maxAsked+1), "", false); !errors.Is(err, errProtocol) {
		t.Errorf("%v; want the connection ended", err)
	}
}

// FuzzGuard: whatever a server says, what comes through is no longer, nor deeper, than a
// reply may be.
func FuzzGuard(f *testing.F) {
	for _, s := range []string{"+OK\r\n", "$5\r\nhello\r\n", "*2\r\n:1\r\n$-1\r\n", "*1\r\n*1\r\n*1\r\n+a\r\n", "$-2\r\n", ">1\r\n+x\r\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, replies string) {
		whole, errWhole := talk(get+get+get, replies, false)
		single, errSingle := talk(get+get+get, replies, true)
		if (errWhole == nil) != (errSingle == nil) {
			t.Errorf("%q: %v at once, %v by octets", replies, errWhole, errSingle)
		}
		if errWhole == nil && (whole != replies || single != replies) {
			t.Errorf("%q came through as %q and %q", replies, whole, single)
		}
	})
}
