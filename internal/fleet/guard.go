package fleet

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
)

// The client library reads a reply as long as its first line says that it is: a length of
// petabytes, or of -2, panics in a goroutine of the library's own, and ends the process. So
// does a reply that nobody asked for, one with a type of another protocol version, and an
// array in an array in an array. A server that was broken into must not end the daemon,
// so each connection is guarded: what is no reply of RESP2 within these bounds, to a command
// that was sent, ends the connection, which is an error like any other.
const (
	// maxBulk is the longest string in a reply: a record and some room.
	maxBulk = maxRecord + 1<<10
	// maxArray is how many entries an array has at most. A page of a scan is the longest.
	maxArray = 16_384
	// maxReply is the most octets of one reply: those of a page of a scan, or of the map
	// of a cluster.
	maxReply = 8 << 20
	// maxNesting is how deep arrays nest; CLUSTER SLOTS has four.
	maxNesting = 6
	// maxLine is the longest line: an error in words.
	maxLine = 1 << 10
	// maxAsked is how many commands wait for their reply at most.
	maxAsked = 1 << 16
)

// errProtocol: the server sent what no reply is. Nothing it says counts.
var errProtocol = errors.New("fleet: the server breaks the protocol")

// guarded is a connection whose both directions are counted.
type guarded struct {
	net.Conn
	mu   sync.Mutex
	sent frames // commands, as they are written
	got  frames // replies, as they are read
	// asked are the commands without a reply, oldest first; true for those whose reply has
	// names and values by turns.
	asked []bool
	err   error
}

func guard(c net.Conn) net.Conn {
	g := &guarded{Conn: c}
	g.got.replies = true
	return g
}

// Write notes the commands that go out. Nothing is sent after an error.
func (g *guarded) Write(b []byte) (int, error) {
	if err := g.note(b); err != nil {
		return 0, err
	}
	return g.Conn.Write(b)
}

func (g *guarded) note(b []byte) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	for len(b) > 0 && g.err == nil {
		var done bool
		if b, done, g.err = g.sent.feed(b); done {
			g.asked = append(g.asked, g.sent.first == "HELLO")
			if len(g.asked) > maxAsked {
				g.err = fmt.Errorf("%w: it answers nothing", errProtocol)
			}
		}
	}
	return g.err
}

// Read hands on what was looked at, and no octet of what may not be read.
func (g *guarded) Read(b []byte) (int, error) {
	n, err := g.Conn.Read(b)
	if bad := g.check(b[:n]); bad != nil {
		_ = g.Close()
		return 0, bad
	}
	return n, err
}

func (g *guarded) check(b []byte) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	for len(b) > 0 && g.err == nil {
		if len(g.asked) == 0 {
			g.err = fmt.Errorf("%w: it answers what nobody asked", errProtocol)
			break
		}
		var done bool
		b, done, g.err = g.got.feed(b)
		if !done {
			continue
		}
		if g.asked[0] && g.got.entries%2 != 0 {
			g.err = fmt.Errorf("%w: names without values", errProtocol)
		}
		g.asked = g.asked[1:]
	}
	return g.err
}

// frames follows RESP2 messages, one after another, without keeping them.
type frames struct {
	// replies says that all types may come, and their bounds hold; else it is commands.
	replies bool
	// first is the first string of the message that was read last, in a command, and
	// entries how many entries its outermost array has.
	first   string
	entries int

	line []byte // the line that is being read
	skip int    // octets of a string, and its line end, that are to come
	kept bool   // they are the first string of a command
	// open are how many entries each array that is open still wants.
	open  []int
	total int
}

// feed reads up to the end of a message, or of b. It returns what is left, and whether the
// message ended.
func (f *frames) feed(b []byte) (rest []byte, done bool, err error) {
	for len(b) > 0 {
		if f.skip > 0 {
			b = f.pass(b)
			if f.skip > 0 {
				return nil, false, nil
			}
			if f.closed() {
				return b, true, nil
			}
			continue
		}
		c := b[0]
		b = b[1:]
		if c != '\n' {
			if f.line = append(f.line, c); len(f.line) > maxLine {
				return nil, false, fmt.Errorf("%w: a line of more than %d octets", errProtocol, maxLine)
			}
			continue
		}
		ended, err := f.lineEnd()
		if err != nil {
			return nil, false, err
		}
		if ended {
			return b, true, nil
		}
	}
	return nil, false, nil
}

// pass skips octets of a string.
func (f *frames) pass(b []byte) []byte {
	n := min(f.skip, len(b))
	if f.kept {
		f.line = append(f.line, b[:n]...)
	}
	f.skip -= n
	if f.skip == 0 && f.kept {
		f.first, f.kept = string(f.line[:len(f.line)-2]), false
		f.line = f.line[:0]
	}
	return b[n:]
}

// lineEnd takes a line, and reports whether the message ended with it.
func (f *frames) lineEnd() (bool, error) {
	line := f.line
	f.line = f.line[:0]
	if len(line) < 2 || line[len(line)-1] != '\r' {
		return false, fmt.Errorf("%w: a line that does not end", errProtocol)
	}
	if len(f.open) == 0 {
		f.first, f.entries, f.total = "", 0, 0
	}
	switch f.total += len(line) + 1; line[0] {
	case '+', '-', ':':
		if line[0] == ':' && !isNumber(line[1:len(line)-1]) {
			return false, fmt.Errorf("%w: no number", errProtocol)
		}
	case '$', '*':
		n, err := strconv.Atoi(string(line[1 : len(line)-1]))
		if err != nil {
			return false, fmt.Errorf("%w: no length", errProtocol)
		}
		if wait, err := f.begin(line[0], n); wait || err != nil {
			return false, err
		}
	default:
		return false, fmt.Errorf("%w: a message of type %q", errProtocol, line[0])
	}
	if f.replies && f.total > maxReply {
		return false, fmt.Errorf("%w: a reply of more than %d octets", errProtocol, maxReply)
	}
	return f.closed(), nil
}

// isNumber reports whether a line is one that fits.
func isNumber(b []byte) bool {
	_, err := strconv.ParseInt(string(b), 10, 64)
	return err == nil
}

// begin opens a string or an array, and reports whether more of it is to come.
func (f *frames) begin(kind byte, n int) (wait bool, err error) {
	if n == -1 {
		return false, nil // null
	}
	most := maxBulk
	if kind == '*' {
		most = maxArray
	}
	if n < 0 || f.replies && n > most {
		return false, fmt.Errorf("%w: a length of %d", errProtocol, n)
	}
	if kind == '$' {
		f.skip = n + len("\r\n")
		f.total += f.skip
		f.kept = !f.replies && f.first == "" && n <= len("HELLO")
		if f.replies && f.total > maxReply {
			return false, fmt.Errorf("%w: a reply of more than %d octets", errProtocol, maxReply)
		}
		return true, nil
	}
	if len(f.open) == 0 {
		f.entries = n
	}
	if n == 0 {
		return false, nil
	}
	if f.open = append(f.open, n); len(f.open) > maxNesting {
		return false, fmt.Errorf("%w: arrays nest too deeply", errProtocol)
	}
	return true, nil
}

// closed counts an entry that ended, and reports whether the message did.
func (f *frames) closed() bool {
	for len(f.open) > 0 {
		last := len(f.open) - 1
		if f.open[last]--; f.open[last] > 0 {
			return false
		}
		f.open = f.open[:last]
	}
	return true
}
