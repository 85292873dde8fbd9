package postfixmap

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
)

var (
	// ErrNoSpace says that a request has no map name, or no space after it. It cannot be
	// answered: the connection is closed.
	ErrNoSpace = errors.New("postfixmap: request is not a map name, a space and a key")
	// ErrBadReply says that a reply does not start with one of the five status words and a
	// space. It means what TEMP means: the answer is not known.
	ErrBadReply = errors.New("postfixmap: reply is not a status word, a space and data")
)

// A Status is the first word of a reply. The zero value is TEMP: an answer that nobody gave must
// defer mail, never send it on in the clear.
type Status uint8

// The five status words.
const (
	// StatusTemp says that the answer is not known now: the mail waits.
	StatusTemp Status = iota
	// StatusOK says that the key was found, and that Data is its value.
	StatusOK
	// StatusNotFound says that the key is not in the map. Its data is empty, but the space
	// before it is sent.
	StatusNotFound
	// StatusTimeout is TEMP by another name.
	StatusTimeout
	// StatusPerm is a failure that will not pass. Do not send it: Postfix defers on it as on
	// TEMP, but Sendmail takes it for "not found" and delivers.
	StatusPerm
)

// String returns the word as it is on the wire, or Status(n) for a number that is no status.
func (s Status) String() string {
	switch s {
	case StatusTemp:
		return "TEMP"
	case StatusOK:
		return "OK"
	case StatusNotFound:
		return "NOTFOUND"
	case StatusTimeout:
		return "TIMEOUT"
	case StatusPerm:
		return "PERM"
	}
	return fmt.Sprintf("Status(%d)", uint8(s))
}

// A Request is one question. Map has no space and is not empty; Key is everything after the
// first space, bytes as the client sent them.
type Request struct {
	Map, Key []byte
	// Client is who asks, for a Handler that shares something out: the address without the
	// port ("192.0.2.1"), of IPv6 the network of 64 bits ("2001:db8:1:2::/64"), over a unix
	// socket the user ("uid 104", where the kernel tells), or "". ParseRequest leaves it empty.
	Client string
}

// ParseRequest splits the payload of a request. The parts point into payload. The only error is
// ErrNoSpace.
func ParseRequest(payload []byte) (Request, error) {
	i := bytes.IndexByte(payload, ' ')
	if i <= 0 {
		return Request{}, ErrNoSpace
	}
	return Request{Map: payload[:i:i], Key: payload[i+1:]}, nil
}

// AppendRequest appends a whole request, netstring included, to dst. Errors: ErrNoSpace for a
// map name that is empty or has a space, ErrTooLong above MaxRequest bytes; dst comes back as it
// was.
func AppendRequest(dst []byte, mapName, key string) ([]byte, error) {
	if err := checkRequest(mapName, key); err != nil {
		return dst, err
	}
	dst = appendLength(dst, len(mapName)+1+len(key))
	dst = append(dst, mapName...)
	dst = append(dst, ' ')
	dst = append(dst, key...)
	return append(dst, ','), nil
}

func checkRequest(mapName, key string) error {
	if mapName == "" || strings.IndexByte(mapName, ' ') >= 0 {
		return fmt.Errorf("%w: map name %q", ErrNoSpace, mapName)
	}
	if n := len(mapName) + 1 + len(key); n > MaxRequest {
		return fmt.Errorf("%w: request of %d bytes", ErrTooLong, n)
	}
	return nil
}

// A Reply is one answer: a status, and its data or reason.
type Reply struct {
	Status Status
	Data   []byte
}

// ParseReply splits the payload of a reply; Data points into payload.
//
// The only error is ErrBadReply. The space is demanded although some clients do not: Postfix
// reads a bare "OK" as "not found", and mail would leave without its policy.
func ParseReply(payload []byte) (Reply, error) {
	i := bytes.IndexByte(payload, ' ')
	if i < 0 {
		return Reply{}, fmt.Errorf("%w: %.40q", ErrBadReply, payload)
	}
	data := payload[i+1:]
	switch string(payload[:i]) {
	case "OK":
		return Reply{StatusOK, data}, nil
	case "NOTFOUND":
		return Reply{StatusNotFound, data}, nil
	case "TEMP":
		return Reply{StatusTemp, data}, nil
	case "TIMEOUT":
		return Reply{StatusTimeout, data}, nil
	case "PERM":
		return Reply{StatusPerm, data}, nil
	}
	return Reply{}, fmt.Errorf("%w: %.40q", ErrBadReply, payload)
}

// AppendReply appends a whole reply, netstring included, to dst. Errors, with dst as it was:
// ErrBadReply for a number that is no status or for a NUL in the data (Postfix would cut it off
// there), ErrTooLong above MaxReply bytes.
func AppendReply(dst []byte, r Reply) ([]byte, error) {
	if r.Status > StatusPerm {
		return dst, fmt.Errorf("%w: %v", ErrBadReply, r.Status)
	}
	if bytes.IndexByte(r.Data, 0) >= 0 {
		return dst, fmt.Errorf("%w: NUL in the data", ErrBadReply)
	}
	word := r.Status.String()
	n := len(word) + 1 + len(r.Data)
	if n > MaxReply {
		return dst, fmt.Errorf("%w: reply of %d bytes", ErrTooLong, n)
	}
	dst = appendLength(dst, n)
	dst = append(dst, word...)
	dst = append(dst, ' ')
	dst = append(dst, r.Data...)
	return append(dst, ','), nil
}

// AppendOK appends the reply payload "OK DATA": what a Handler returns for a hit. Empty data is
// an error to Postfix, which defers on it.
func AppendOK(reply []byte, data string) []byte { return append(append(reply, "OK "...), data...) }

// AppendNotFound appends the reply payload "NOTFOUND ", with the space that the protocol wants.
func AppendNotFound(reply []byte) []byte { return append(reply, "NOTFOUND "...) }

// AppendTemp appends the reply payload "TEMP REASON". Postfix logs the first 200 bytes of the
// reason.
func AppendTemp(reply []byte, reason string) []byte {
	return append(append(reply, "TEMP "...), reason...)
}

// checkReply judges the payload that a Handler returned, before it goes out.
func checkReply(payload []byte) error {
	if len(payload) > MaxReply {
		return fmt.Errorf("%w: reply of %d bytes", ErrTooLong, len(payload))
	}
	if bytes.IndexByte(payload, 0) >= 0 {
		return fmt.Errorf("%w: NUL in the data", ErrBadReply)
	}
	_, err := ParseReply(payload)
	return err
}
