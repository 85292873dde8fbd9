package doctor

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"strconv"
	"time"

	"tlsverdict/postfixmap"
)

// askTime bounds one question. It needs no DNS, and policyd answers it in a millisecond.
const askTime = 3 * time.Second

// Answer is what came of a question to what should be policyd.
type Answer struct {
	// Policyd: it is, and it answers.
	Policyd bool
	// Reply is what came from something else.
	Reply string
	// Problem is why nothing came. Unasked: the question could not even be put; Denied:
	// this process may not put it.
	Problem         string
	Unasked, Denied bool
}

// The question: about an address, to which nothing applies, so that nothing is looked up,
// and what policyd says of it to Exim, as no other daemon does.
const (
	askMap = "exim"
	askKey = "[192.0.2.1]"
	answer = "level=none"
)

// place is where a program that asks stands.
type place struct {
	user User
	// dir is what is "/" to it.
	dir string
}

// Ask asks what listens at an address of policyd's configuration.
func Ask(ctx context.Context, a postfixmap.Address) Answer { return ask(ctx, a.Dial) }

func askTCP(ctx context.Context, address string) Answer {
	return ask(ctx, func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", address)
	})
}

// askUnix asks over a unix socket as another program would.
func askUnix(ctx context.Context, from place, file string) Answer {
	if why := mayNotBecome(); why != "" {
		return Answer{Problem: why + " to ask as the user " + from.user.Name, Unasked: true}
	}
	return ask(ctx, func(context.Context) (net.Conn, error) { return dialFrom(from, file) })
}

func ask(ctx context.Context, dial func(context.Context) (net.Conn, error)) Answer {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	client := &postfixmap.Client{DialFunc: dial}
	defer client.Close()
	reply, err := client.Lookup(ctx, askMap, askKey)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return Answer{Problem: Reason(err), Denied: true}
	case err != nil:
		return Answer{Problem: Reason(err)}
	case reply.Status == postfixmap.StatusOK && string(reply.Data) == answer:
		return Answer{Policyd: true}
	}
	return Answer{Reply: reply.Status.String()}
}

// Reason is why a connection failed, without the operations that it went through.
func Reason(err error) string {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err.Error()
	}
	return err.Error()
}

// number reads a user's or group's.
func number(text string) (uint32, bool) {
	n, err := strconv.ParseUint(text, 10, 32)
	return uint32(n), err == nil
}
