package lab

import (
	"context"
	"fmt"
	"net"
	"net/smtp"
	"strings"
	"testing"
	"time"
)

// letter is one message as a client hands it to the mail server under test.
type letter struct {
	sender     string // "" is the null sender
	parameters string // of MAIL FROM
	recipients []string
	header     string // lines, without the last line's end
}

// receipt is what the mail server answered, each "250 2.1.5 Ok".
type receipt struct {
	mail string
	rcpt []string // in the order of the recipients
	data string   // "" where there was nobody left to send to
}

// hand hands a letter over, and is content with whatever is answered. An error is
// that of the connection.
func hand(ctx context.Context, dial func() (net.Conn, error), l letter) (r receipt, err error) {
	conn, err := dial()
	if err != nil {
		return r, err
	}
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return r, err
	}
	client, err := smtp.NewClient(conn, "localhost")
	if err != nil {
		return r, err
	}
	defer client.Close()
	if err := client.Hello("client.lab.example"); err != nil {
		return r, err
	}
	say := func(format string, args ...any) (string, error) {
		if err := client.Text.PrintfLine(format, args...); err != nil {
			return "", err
		}
		code, text, err := client.Text.ReadResponse(0)
		return fmt.Sprintf("%d %s", code, text), err
	}
	if r.mail, err = say("MAIL FROM:<%s>%s", l.sender, strings.TrimRight(" "+l.parameters, " ")); err != nil || r.mail[0] != '2' {
		return r, err
	}
	accepted := false
	for _, recipient := range l.recipients {
		reply, err := say("RCPT TO:<%s>", recipient)
		if err != nil {
			return r, err
		}
		r.rcpt = append(r.rcpt, reply)
		accepted = accepted || reply[0] == '2'
	}
	if !accepted {
		return r, client.Quit()
	}
	if r.data, err = say("DATA"); err != nil || r.data[0] != '3' {
		return r, err
	}
	if r.data, err = say("%s\r\n\r\nhello\r\n.", strings.ReplaceAll(l.header, "\n", "\r\n")); err != nil {
		return r, err
	}
	return r, client.Quit()
}

func TestHand(t *testing.T) {
	ca, err := newAuthorities()
	if err != nil {
		t.Fatal(err)
	}
	h, err := newMailHost("mx.example", "trusted", nil, ca)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go h.serve(l)
	dial := func() (net.Conn, error) { return net.Dial("tcp", l.Addr().String()) }
	got, err := hand(t.Context(), dial, letter{recipients: []string{"a@example", "b@example"}, header: "Subject: lab"})
	if err != nil || len(got.rcpt) != 2 || !strings.HasPrefix(got.data, "250 ") {
		t.Errorf("%+v, %v", got, err)
	}
	h.become("tempfail")
	got, err = hand(t.Context(), dial, letter{recipients: []string{"a@example"}})
	if err != nil || got.rcpt[0] != "451 4.3.0 try later" || got.data != "" {
		t.Errorf("refused: %+v, %v", got, err)
	}
}
