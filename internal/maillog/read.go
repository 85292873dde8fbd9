package maillog

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
)

const (
	maxLine      = 16 << 10
	maxProcesses = 20_000
	// checkEvery is how many lines are read between two looks at the context.
	checkEvery = 4096
)

// Read reads a log to its end and tells of each delivery, in the order of the log. It
// returns early when ctx ends. The strings of a Delivery are the callee's to keep.
func Read(ctx context.Context, r io.Reader, tell func(Delivery)) (Totals, error) {
	in := bufio.NewReaderSize(r, 256<<10)
	p := parser{tell: tell, sessions: make(map[string]session)}
	for {
		if p.totals.Lines%checkEvery == 0 && ctx.Err() != nil {
			return p.totals, ctx.Err()
		}
		line, err := p.next(in)
		if len(line) > 0 {
			p.line(line)
		}
		switch {
		case errors.Is(err, io.EOF):
			return p.totals, nil
		case err != nil:
			return p.totals, fmt.Errorf("maillog: %w", err)
		}
	}
}

// parser reads lines that belong together.
type parser struct {
	tell   func(Delivery)
	totals Totals
	// sessions are the TLS sessions of processes, by what is before the text of a line.
	sessions map[string]session
	long     []byte
}

// session is what a process said of its last TLS connection.
type session struct {
	host string
	tls  TLS
	// message is the first that went over it.
	message string
}

// next reads one line. What is beyond maxLine is passed over.
func (p *parser) next(in *bufio.Reader) ([]byte, error) {
	line, err := in.ReadSlice('\n')
	p.totals.Octets += int64(len(line))
	if errors.Is(err, bufio.ErrBufferFull) {
		p.long = append(p.long[:0], line[:maxLine]...)
		p.totals.Cut++
		for errors.Is(err, bufio.ErrBufferFull) {
			line, err = in.ReadSlice('\n')
			p.totals.Octets += int64(len(line))
		}
		line = p.long
	}
	if len(line) > 0 {
		p.totals.Lines++
	}
	return bytes.TrimRight(line[:min(len(line), maxLine)], "\r\n"), err
}

// line finds out whose line it is.
func (p *parser) line(line []byte) {
	if text, ok := eximText(line); ok {
		p.exim(text)
		return
	}
	tag, text, ok := bytes.Cut(line, []byte("]: "))
	if !ok {
		return
	}
	// tag ends in "postfix/smtp[1234": the last word is program and process.
	word := tag[bytes.LastIndexByte(tag, ' ')+1:]
	program, _, ok := bytes.Cut(word, []byte("["))
	if !ok {
		return
	}
	switch {
	case bytes.HasSuffix(program, []byte("/smtp")):
		p.postfix(word, text)
	case bytes.HasPrefix(program, []byte("exim")):
		if text, ok := eximText(text); ok {
			p.exim(text)
		}
	case bytes.HasPrefix(program, []byte("sendmail")), bytes.HasPrefix(program, []byte("sm-mta")), bytes.HasPrefix(program, []byte("sm-que")):
		p.sendmail(word, text)
	}
}

// begin notes a TLS session of a process.
func (p *parser) begin(s Server, process []byte, now session) {
	p.totals.TLSLogged[s] = true
	if now.tls >= Trusted {
		p.totals.Checked[s] = true
	}
	if len(p.sessions) >= maxProcesses {
		clear(p.sessions) // they have long ended
	}
	p.sessions[string(process)] = now
}

// over returns how a message went from a process to a host: by the session that the
// process told of, if it is to the host and no other message was the first to use it.
func (p *parser) over(process []byte, host, message string) TLS {
	now, ok := p.sessions[string(process)]
	if !ok || now.host != host || now.message != "" && now.message != message {
		return Clear
	}
	if now.message == "" {
		now.message = message
		p.sessions[string(process)] = now
	}
	return now.tls
}

func (p *parser) delivered(d Delivery) {
	if d.Domain == "" {
		return
	}
	p.totals.Deliveries[d.Server]++
	p.tell(d)
}

// field returns the value of a field of a line such as "to=<a@b>, relay=c, status=sent":
// what is behind "name=" up to the next ", ".
func field(text []byte, name string) []byte {
	for {
		i := bytes.Index(text, []byte(name))
		if i < 0 {
			return nil
		}
		value := text[i+len(name):]
		if i == 0 || text[i-1] == ' ' || text[i-1] == ',' {
			if end := bytes.Index(value, []byte(", ")); end >= 0 {
				value = value[:end]
			}
			return value
		}
		text = value
	}
}

// domainOf returns the domain of an address, in lower case; "" for one that has none.
func domainOf(address []byte) string {
	address = bytes.Trim(address, "<>")
	at := bytes.LastIndexByte(address, '@')
	if at < 0 {
		return ""
	}
	return string(bytes.ToLower(bytes.TrimRight(address[at+1:], ".>")))
}

// hostOf returns a host name as it is compared.
func hostOf(name []byte) string {
	return string(bytes.ToLower(bytes.TrimRight(name, ".")))
}
