package probe

import (
	"bufio"
	"errors"
	"fmt"
	"strings"
)

const (
	// maxLine is the longest line of a reply, in octets. RFC 5321 §4.5.3.1.5 has 512.
	maxLine = 2048
	// maxLines is how many lines a reply may have.
	maxLines = 100
)

// errReply: what came is no reply.
var errReply = errors.New("not an SMTP reply")

// reply is an SMTP reply (RFC 5321 §4.2).
type reply struct {
	code  int
	lines []string
}

// String writes it in one line.
func (r reply) String() string {
	return clip(strings.TrimSpace(fmt.Sprintf("%03d %s", r.code, strings.Join(r.lines, " / "))))
}

// readReply reads one reply. Every line of it has the same code.
func readReply(in *bufio.Reader) (reply, error) {
	var r reply
	for len(r.lines) < maxLines {
		line, err := readLine(in)
		if err != nil {
			return r, err
		}
		code, text, more, err := parseLine(line)
		if err != nil {
			return r, err
		}
		if len(r.lines) > 0 && code != r.code {
			return r, fmt.Errorf("%w: its lines have the codes %d and %d", errReply, r.code, code)
		}
		r.code, r.lines = code, append(r.lines, text)
		if !more {
			return r, nil
		}
	}
	return r, fmt.Errorf("%w: more than %d lines", errReply, maxLines)
}

// readLine reads a line without its end, which is CRLF, or LF alone as some send it.
func readLine(in *bufio.Reader) (string, error) {
	line, err := in.ReadSlice('\n')
	switch {
	case errors.Is(err, bufio.ErrBufferFull):
		return "", fmt.Errorf("%w: a line of more than %d octets", errReply, maxLine)
	case err != nil && len(line) > 0:
		return "", fmt.Errorf("%w after %q", err, clip(string(line)))
	case err != nil:
		return "", err
	}
	return strings.TrimSuffix(string(line[:len(line)-1]), "\r"), nil
}

// parseLine takes a line of a reply apart; more says that another follows.
func parseLine(line string) (code int, text string, more bool, err error) {
	wrong := fmt.Errorf("%w: %q", errReply, clip(line))
	if len(line) < 3 {
		return 0, "", false, wrong
	}
	for i, least := range []byte("200") {
		most := byte('9')
		if i == 0 {
			most = '5'
		}
		if line[i] < least || line[i] > most {
			return 0, "", false, wrong
		}
		code = 10*code + int(line[i]-'0')
	}
	if len(line) == 3 {
		return code, "", false, nil
	}
	if line[3] != ' ' && line[3] != '-' {
		return 0, "", false, wrong
	}
	return code, line[4:], line[3] == '-', nil
}

// offers reports whether the reply to EHLO has an extension among its lines, of which
// the first is the server's name (RFC 5321 §4.1.1.1).
func (r reply) offers(extension string) bool {
	if len(r.lines) == 0 {
		return false
	}
	for _, line := range r.lines[1:] {
		word, _, _ := strings.Cut(line, " ")
		if strings.EqualFold(word, extension) {
			return true
		}
	}
	return false
}

// name is the name that the server gives itself: the first word of its greeting, and of
// its reply to EHLO. It may be anything.
func (r reply) name() string {
	if len(r.lines) == 0 {
		return ""
	}
	word, _, _ := strings.Cut(r.lines[0], " ")
	return strings.ToLower(strings.TrimSuffix(word, "."))
}
